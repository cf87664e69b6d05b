"""What a registry promises about values that are too large for a log: they are named there, and kept beside it."""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from sightline.errors import (
    InvalidInput,
    InvalidPayload,
    ProcessConflict,
    ProcessNotFound,
    ProcessValueNotFound,
)
from sightline.kernel import KernelStore
from sightline.process.appending import MAX_PAYLOAD
from sightline.process.attaching import MAX_INLINE, MAX_MESSAGE, attachment_in
from sightline.process.model import CancelledOutput, FailureOutput, SuccessOutput
from sightline.testing.conformance.process_steps import append, end, hold, register
from sightline.testing.conformance.steps import refused

_LARGE = "x" * MAX_INLINE


async def a_large_payload_is_named_in_the_log_and_kept_beside_it(store: KernelStore) -> None:
    await register(store)
    payload = {"text": "look", "page": _LARGE}
    stored = (await append(store, payload=payload, key="k")).event
    assert stored is not None
    [event] = await store.list_process_events("p", after=0, limit=9)
    assert event == stored
    attachment = attachment_in(event.payload)
    assert attachment is not None
    assert (attachment.media_type, attachment.size) == ("application/json", len(msgspec.json.encode(payload)))
    assert msgspec.json.decode(await store.process_value("p", attachment.attachment_id)) == payload
    assert len(msgspec.json.encode(event)) < 1_000


async def what_is_small_enough_stands_in_the_log(store: KernelStore) -> None:
    await register(store)
    payload = "x" * (MAX_INLINE - 2)
    appended = await append(store, payload=payload)
    assert appended.event is not None
    assert (appended.event.payload, appended.kept) == (payload, ())


async def a_large_payload_that_comes_again_under_its_key_is_the_same(store: KernelStore) -> None:
    await register(store)
    first = await append(store, payload=[_LARGE, 1], key="k")
    again = await append(store, payload=[_LARGE, 1], key="k")
    assert (again.event, again.replayed) == (first.event, True)
    await refused(ProcessConflict, append(store, payload=[_LARGE, 2], key="k"))


async def a_large_output_is_named_in_the_record_and_kept_once(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store)
    result = await end(store, SuccessOutput(value=[_LARGE]), lease=lease)
    record = await store.get_process("p")
    assert record == result.record
    assert isinstance(record.output, SuccessOutput)
    attachment = attachment_in(record.output.value)
    assert attachment is not None
    assert msgspec.json.decode(await store.process_value("p", attachment.attachment_id)) == [_LARGE]
    [event] = await store.list_process_events("p", after=0, limit=9)
    assert event.payload["await_output"]["value"] == record.output.value
    assert len(msgspec.json.encode(event)) + len(msgspec.json.encode(record)) < 5_000
    [listed] = (await store.list_processes(limit=9, after=None)).processes
    assert listed == record


async def an_output_may_be_as_large_as_a_payload(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store)
    error = await refused(InvalidInput, end(store, SuccessOutput(value="x" * (MAX_PAYLOAD - 1)), lease=lease))
    assert error.field == "payload/await_output/value"
    largest = "x" * (MAX_PAYLOAD - 2)
    record = (await end(store, SuccessOutput(value=largest), lease=lease)).record
    assert isinstance(record.output, SuccessOutput)
    attachment = attachment_in(record.output.value)
    assert attachment is not None
    assert attachment.size == MAX_PAYLOAD


async def a_long_message_is_begun_in_the_record_and_kept_beside_it(store: KernelStore) -> None:
    message = "no " * MAX_INLINE
    for process_id, output in (
        ("failed", FailureOutput(code="c", message=message)),
        ("cancelled", CancelledOutput(message=message)),
        ("raw", FailureOutput(code="c", message=message, raw=7)),
    ):
        await register(store, process_id)
        lease = await hold(store, process_id=process_id)
        record = (await end(store, output, process_id=process_id, lease=lease)).record
        assert isinstance(record.output, FailureOutput | CancelledOutput)
        assert record.output.message == f"{message[: MAX_MESSAGE - 1]}…"
        [event] = await store.list_process_events(process_id, after=0, limit=9)
        assert event.payload["await_output"] == msgspec.to_builtins(record.output)
        attachment = attachment_in(record.output.raw)
        if process_id == "raw":
            assert record.output.raw == 7
        else:
            assert attachment is not None
            assert msgspec.json.decode(await store.process_value(process_id, attachment.attachment_id)) == message
        assert (await end(store, output, process_id=process_id)).replayed


async def what_only_looks_like_an_end_is_logged_as_it_is(store: KernelStore) -> None:
    await register(store)
    payload = {"await_output": {"type": "essay", "message": "no " * MAX_MESSAGE}}
    appended = await append(store, payload=payload)
    assert appended.event is not None
    assert appended.event.payload == payload


async def what_a_large_payload_means_is_found_before_it_is_put_aside(store: KernelStore) -> None:
    await register(store)
    event = (await append(store, "report", {"text": "look", "page": _LARGE})).event
    assert event is not None
    assert event.wake is not UNSET
    assert event.wake.input == "look"
    await refused(InvalidPayload, append(store, "report", {"text": 1, "page": _LARGE}))


async def a_value_that_is_not_kept_is_not_found(store: KernelStore) -> None:
    await register(store)
    await register(store, "q")
    event = (await append(store, payload=[_LARGE])).event
    assert event is not None
    attachment = attachment_in(event.payload)
    assert attachment is not None
    await refused(ProcessValueNotFound, store.process_value("q", attachment.attachment_id))
    await refused(ProcessValueNotFound, store.process_value("p", "sha256:0"))
    await refused(ProcessNotFound, store.process_value("nobody", attachment.attachment_id))


async def a_payload_that_looks_like_the_name_of_a_value_is_refused(store: KernelStore) -> None:
    await register(store)
    name = {"$attachment": {"attachment_id": "sha256:0", "media_type": "application/json", "size": 1}}
    await refused(InvalidInput, append(store, payload=name))
    await refused(InvalidInput, end(store, SuccessOutput(value=name), lease=await hold(store)))
    await append(store, payload=[name])
    assert len(await store.list_process_events("p", after=0, limit=9)) == 1
