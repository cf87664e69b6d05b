"""What a registry promises about processes: registered once, granted with it, found again."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, structs

from sightline.errors import InvalidInput, ProcessConflict, ProcessNotFound, SessionDeleted, SessionNotFound
from sightline.kernel import KernelStore
from sightline.process.model import ExternalRef, NewGrant, ProcessScope, Provenance, SuccessOutput
from sightline.process.rules import CORE_TYPES
from sightline.testing.conformance.process_steps import (
    HERE,
    append,
    end,
    everything_of,
    external,
    granted_to,
    hold,
    offer_process,
    register,
    registration,
)
from sightline.testing.conformance.steps import NOW, ignored, new_session, refused

_MINE = (NewGrant(scope=HERE, descriptor={"label": "mine"}),)


async def a_process_is_registered_with_all_that_was_said_of_it(store: KernelStore) -> None:
    provenance = Provenance(
        owner_scope=ProcessScope("s", "f"), host_profile_id="big machine", caused_by={"turn_id": "t1"}
    )
    work = registration(provenance=provenance, wake_target=ProcessScope("other"), disposition="owner_bound")
    stored = await offer_process(store, work, now=NOW + 1)
    assert stored.created
    record = stored.record
    assert (record.process_id, record.kind, record.input) == ("p", "function", work.input)
    assert (record.provenance, record.wake_target, record.disposition) == (provenance, work.wake_target, "owner_bound")
    assert (record.created_at_ms, record.updated_at_ms) == (NOW + 1, NOW + 1)
    assert (record.status, record.output, record.last_sequence, record.attempts) == ("running", UNSET, 0, 0)
    assert await store.get_process("p") == record


async def every_process_has_the_core_types_behind_its_own(store: KernelStore) -> None:
    [failed] = [core for core in CORE_TYPES if core.name == "process.failed"]
    record = await register(store, event_types=(structs.replace(failed, schema=True),))
    names = [event_type.name for event_type in record.event_types]
    core = {"process.cancel_requested", "process.completed", "process.failed", "process.cancelled", "process.signal"}
    assert set(names) == core
    assert len(names) == len(core)
    # Whoever declares one of them means it.
    assert record.event_types[0].schema is True


async def the_same_registration_finds_the_process_it_made(store: KernelStore) -> None:
    first = await offer_process(store, registration())
    await append(store)
    again = await offer_process(store, registration(), now=NOW + 50)
    assert not again.created
    assert again.record == structs.replace(first.record, last_sequence=1)


async def the_same_registration_finds_a_process_that_has_ended(store: KernelStore) -> None:
    await offer_process(store, external())
    ended = await end(store)
    assert (await offer_process(store, external())).record == ended.record


async def another_cause_does_not_make_another_registration(store: KernelStore) -> None:
    """The turn that repeats it may be another attempt."""
    first = await register(store, provenance=Provenance(owner_scope=HERE, caused_by={"turn_id": "t1"}))
    again = await offer_process(
        store, registration(provenance=Provenance(owner_scope=HERE, caused_by={"turn_id": "t2"}))
    )
    assert again.record == first


async def an_id_that_comes_with_other_content_is_refused(store: KernelStore) -> None:
    await register(store)
    before = await everything_of(store)
    for other in (
        registration(input={"name": "count", "args": {"to": 4}}),
        registration(kind="command"),
        registration(event_types=()),
        registration(disposition="owner_bound"),
        registration(wake_target=ProcessScope("s")),
        registration(provenance=Provenance(owner_scope=ProcessScope("s", "f"))),
        registration(provenance=Provenance(owner_scope=HERE, host_profile_id="big machine")),
    ):
        error = await refused(ProcessConflict, offer_process(store, other))
        assert error.process_id == "p"
    assert await everything_of(store) == before


async def what_no_registry_should_hold_is_refused(store: KernelStore) -> None:
    await refused(InvalidInput, offer_process(store, registration(" ")))
    await refused(InvalidInput, offer_process(store, registration(input={"not": object()})))
    await refused(InvalidInput, offer_process(store, registration(disposition="externally_owned")))
    await refused(ProcessNotFound, store.get_process("p"))


async def a_process_is_registered_and_granted_at_once_or_not_at_all(store: KernelStore) -> None:
    await new_session(store)
    stored = await offer_process(store, registration(), grants=_MINE)
    assert [(entry.process_id, entry.descriptor) for entry in await store.list_handle_grants(HERE)] == [
        ("p", {"label": "mine"})
    ]
    nobody = (*_MINE, NewGrant(scope=ProcessScope("nobody")))
    await refused(SessionNotFound, offer_process(store, registration("q"), grants=nobody))
    await refused(ProcessNotFound, store.get_process("q"))
    assert await granted_to(store) == ["p"]
    assert stored.created


async def a_registration_that_is_repeated_brings_no_grant_back(store: KernelStore) -> None:
    for name in ("s", "other"):
        await new_session(store, name)
    await offer_process(store, registration(), grants=_MINE)
    await store.transfer_grants(HERE, ProcessScope("other"), ["p"], then=ignored)
    assert not (await offer_process(store, registration(), grants=_MINE)).created
    assert await granted_to(store) == []
    await refused(ProcessConflict, offer_process(store, registration(input={}), grants=_MINE))
    assert await granted_to(store) == []
    await store.delete_session("s", NOW, ignored)
    assert not (await offer_process(store, registration(), grants=_MINE)).created


async def nothing_is_granted_to_a_session_that_was_deleted(store: KernelStore) -> None:
    await new_session(store)
    await store.delete_session("s", NOW, ignored)
    await refused(SessionDeleted, offer_process(store, registration(), grants=_MINE))
    await refused(ProcessNotFound, store.get_process("p"))


async def what_is_told_is_told_once_and_only_if_it_was_done(store: KernelStore) -> None:
    told: list[Any] = []
    stored = await store.register_process(registration(), now=NOW, then=told.append)
    assert told == [stored]
    await refused(ProcessConflict, store.register_process(registration(input={}), now=NOW, then=told.append))
    assert told == [stored]


async def processes_are_listed_in_pages_the_newest_first(store: KernelStore) -> None:
    for name in ("b", "d", "a", "c"):
        await register(store, name)
    first = await store.list_processes(limit=3, after=None)
    assert [record.process_id for record in first.processes] == ["c", "a", "d"]
    assert first.next is not None
    await register(store, "e")
    second = await store.list_processes(limit=3, after=int(first.next))
    assert ([record.process_id for record in second.processes], second.next) == (["b"], None)
    whole = await store.list_processes(limit=5, after=None)
    assert (len(whole.processes), whole.next) == (5, None)


async def processes_are_listed_by_status_and_kind(store: KernelStore) -> None:
    await register(store, "here")
    await offer_process(store, external("done"))
    await offer_process(store, external("going on"))
    await end(store, process_id="done")

    async def names(**wanted: Any) -> list[str]:
        page = await store.list_processes(limit=10, after=None, **wanted)
        return [record.process_id for record in page.processes]

    assert await names(status="running") == ["going on", "here"]
    assert await names(status="completed") == ["done"]
    assert await names(kind="external") == ["going on", "done"]
    assert await names(status="running", kind="external") == ["going on"]
    assert await names(status="abandoned") == []


async def a_worker_finds_what_nobody_has_in_pages_by_id(store: KernelStore) -> None:
    for name in ("a", "b", "c", "d", "e"):
        await register(store, name)
    await offer_process(store, external("elsewhere"))
    await hold(store, process_id="b", ttl_ms=100)
    await end(store, process_id="c", lease=await hold(store, process_id="c"))

    async def names(now: int = NOW, **wanted: Any) -> list[str]:
        return [record.process_id for record in await store.runnable_processes(now=now, **wanted)]

    assert await names(limit=10) == ["a", "d", "e"]
    assert await names(limit=2) == ["a", "d"]
    assert await names(limit=2, after="d") == ["e"]
    assert await names(limit=10, now=NOW + 99) == ["a", "d", "e"]
    assert await names(limit=10, now=NOW + 100) == ["a", "b", "d", "e"]


async def a_worker_finds_what_is_of_its_profile(store: KernelStore) -> None:
    await register(store, "any")
    await register(store, "big", provenance=Provenance(host_profile_id="big machine"), event_types=())
    found = await store.runnable_processes(now=NOW, limit=10, host_profile_id="big machine")
    assert [record.process_id for record in found] == ["big"]
    assert len(await store.runnable_processes(now=NOW, limit=10)) == 2


async def a_process_is_called_elsewhere_as_was_said_last(store: KernelStore) -> None:
    await register(store)
    for name in ("job-1", "job-2"):
        record = await store.set_external_ref("p", ExternalRef(backend="farm", id=name), now=NOW + 5, then=ignored)
    assert record.external_ref == ExternalRef(backend="farm", id="job-2")
    assert record.updated_at_ms == NOW + 5
    assert await store.get_process("p") == record
    ref = ExternalRef(backend="farm", id="job-3")
    await refused(ProcessNotFound, store.set_external_ref("nobody", ref, now=NOW, then=ignored))


async def what_was_registered_and_logged_is_not_the_callers_to_change(store: KernelStore) -> None:
    given: dict[str, Any] = {"name": "count"}
    payload: dict[str, Any] = {"seen": 1}
    value: list[int] = [1]
    await offer_process(store, external(input=given))
    await append(store, payload=payload)
    await end(store, SuccessOutput(value=value))
    given["name"] = payload["seen"] = "changed"
    value.append(2)
    record, events, *_ = await everything_of(store)
    assert record.input == {"name": "count"}
    assert events[0].payload == {"seen": 1}
    assert record.output == SuccessOutput(value=[1])
