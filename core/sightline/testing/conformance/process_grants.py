"""What a registry promises about who sees a process."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from sightline.errors import HandleNotGranted, ProcessNotFound, SessionDeleted, SessionNotFound
from sightline.kernel import KernelStore
from sightline.process.appending import MAX_SHOWN_PROGRESS
from sightline.process.model import EventType, GrantHolder, GrantsEnded, HandleGrant, ProcessScope
from sightline.testing.conformance.process_steps import (
    HERE,
    NOTE,
    append,
    ask_to_cancel,
    end,
    everything_of,
    external,
    grant,
    granted_to,
    hold,
    log_of,
    offer_process,
    register,
    take_away,
)
from sightline.testing.conformance.steps import NOW, ignored, new_session, refused

FRAME = ProcessScope("s", "f")
THERE = ProcessScope("other")


async def who_is_granted_a_process_sees_it_as_it_stands(store: KernelStore) -> None:
    await new_session(store)
    await register(store, "b")
    await offer_process(store, external("a"))
    await grant(store, "b", label="the second")
    granted = await grant(store, "a", label="the first")
    definition = {"kind": "external", "name": "count"}
    assert granted == HandleGrant(
        process_id="a",
        status="running",
        descriptor={"label": "the first"},
        definition=definition,
        kind="external",
        created_at_ms=NOW,
    )
    assert [entry.process_id for entry in await store.list_handle_grants(HERE)] == ["a", "b"]
    await end(store, process_id="a")
    assert await granted_to(store, live=True) == ["b"]
    [ended, _] = await store.list_handle_grants(HERE)
    assert (ended.process_id, ended.status) == ("a", "completed")


async def how_far_a_process_is_shows_wherever_it_does(store: KernelStore) -> None:
    await new_session(store)
    await register(store, event_types=(EventType(name="progress"), NOTE))
    await grant(store)
    for payload in ({"done": 1}, {"done": 2}):
        await append(store, "progress", payload)
    await append(store, "note", {"done": 3})
    assert (await store.get_process("p")).progress == {"done": 2}
    [shown] = await store.list_handle_grants(HERE)
    assert (shown.progress, shown.cancel_requested) == ({"done": 2}, False)
    await ask_to_cancel(store)
    await append(store, "progress")
    [summary] = (await store.load_session("s", 10)).processes
    assert (summary.progress, summary.cancel_requested) == (None, True)
    await append(store, "progress", "x" * MAX_SHOWN_PROGRESS)
    [summary] = (await store.load_session("s", 10)).processes
    assert (summary.progress, summary.cancel_requested) == (UNSET, True)
    assert (await store.get_process("p")).cancel_requested


async def a_grant_that_is_made_again_names_the_process_anew(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    await grant(store, label="old")
    await grant(store, label="new")
    assert await store.grants_of_process("p") == (GrantHolder(scope=HERE, descriptor={"label": "new"}),)


async def a_grant_is_of_one_scope_however_its_session_is_called(store: KernelStore) -> None:
    for name in ("s", "s/frame:f", "session:s"):
        await new_session(store, name)
    await register(store)
    await grant(store, scope=FRAME)
    assert await granted_to(store, FRAME) == ["p"]
    assert await granted_to(store) == []
    assert await granted_to(store, ProcessScope("s/frame:f")) == []
    assert not await store.revoke_process("p", ProcessScope("s/frame:f"), then=ignored)
    await grant(store, scope=ProcessScope("s/frame:f"))
    assert [holder.scope for holder in await store.grants_of_process("p")] == [FRAME, ProcessScope("s/frame:f")]


async def nothing_is_granted_of_what_or_to_whom_is_not_there(store: KernelStore) -> None:
    await refused(ProcessNotFound, grant(store))
    await register(store)
    await refused(SessionNotFound, grant(store))
    await new_session(store)
    await store.delete_session("s", NOW, ignored)
    await refused(SessionDeleted, grant(store))
    assert await store.grants_of_process("p") == ()
    assert await store.grants_of_process("nobody") == ()


async def a_grant_is_taken_away_once_and_the_process_goes_on(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    await grant(store)
    assert await store.revoke_process("p", HERE, then=ignored)
    assert not await store.revoke_process("p", HERE, then=ignored)
    assert not await store.revoke_process("nobody", HERE, then=ignored)
    assert await granted_to(store) == []
    assert await log_of(store) == []


async def processes_are_handed_over_with_their_names(store: KernelStore) -> None:
    for name in ("s", "other"):
        await new_session(store, name)
    for name in ("a", "b", "c"):
        await register(store, name)
        await grant(store, name, label=name)
    await grant(store, "a", THERE, label="known here as")
    moved = await store.transfer_grants(HERE, THERE, ["b", "a", "b"], then=ignored)
    assert [(entry.process_id, entry.descriptor) for entry in moved] == [("a", {"label": "a"}), ("b", {"label": "b"})]
    assert await granted_to(store) == ["c"]
    assert [entry.descriptor for entry in await store.list_handle_grants(THERE)] == [{"label": "a"}, {"label": "b"}]
    assert await log_of(store, "a") == []


async def processes_are_handed_over_all_or_none(store: KernelStore) -> None:
    for name in ("s", "other"):
        await new_session(store, name)
    for name in ("a", "b"):
        await register(store, name)
    await grant(store, "a")
    await grant(store, "b", FRAME)
    told: list[Any] = []
    for wanted in (["a", "b"], ["a", "nobody"], ["nobody", "a"]):
        error = await refused(HandleNotGranted, store.transfer_grants(HERE, THERE, wanted, then=told.append))
        assert (error.session_id, error.process_id) == ("s", wanted[1] if wanted[0] == "a" else "nobody")
    await refused(SessionNotFound, store.transfer_grants(HERE, ProcessScope("nobody"), ["a"], then=told.append))
    assert told == []
    assert await granted_to(store) == ["a"]
    assert await granted_to(store, THERE) == []


async def to_hand_over_nothing_is_nothing(store: KernelStore) -> None:
    assert await store.transfer_grants(HERE, ProcessScope("nobody"), [], then=ignored) == ()


async def a_process_handed_over_to_where_it_is_stays_there(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    await grant(store)
    [moved] = await store.transfer_grants(HERE, HERE, ["p"], then=ignored)
    assert moved.process_id == "p"
    assert await granted_to(store) == ["p"]


async def a_process_handed_over_while_it_runs_ends_where_it_is_then(store: KernelStore) -> None:
    for name in ("s", "other"):
        await new_session(store, name)
    await register(store)
    await grant(store)
    lease = await hold(store)
    await store.transfer_grants(HERE, THERE, ["p"], then=ignored)
    await end(store, lease=lease)
    assert (await granted_to(store), await granted_to(store, live=True)) == ([], [])
    [seen] = await store.list_handle_grants(THERE)
    assert seen.status == "completed"


async def what_is_not_kept_is_taken_away_and_cancelled_if_nobody_else_sees_it(store: KernelStore) -> None:
    for name in ("s", "other"):
        await new_session(store, name)
    for name in ("alone", "kept", "shared", "in a frame"):
        await register(store, name)
        await grant(store, name)
    await offer_process(store, external("done"))
    await grant(store, "done")
    await end(store, process_id="done")
    await grant(store, "shared", THERE)
    await grant(store, "in a frame", FRAME)
    ended = await take_away(store, "kept", "unknown")
    assert ended.revoked == ("alone", "done", "in a frame", "shared")
    assert ended.preserved == ("done", "in a frame", "shared")
    [cancelled] = ended.cancelled
    assert cancelled.event is not None
    assert (cancelled.record.process_id, cancelled.event.payload) == ("alone", {"reason": "not needed"})
    assert cancelled.record == await store.get_process("alone")
    assert await log_of(store, "alone") == ["process.cancel_requested"]
    assert await log_of(store, "shared") == []
    assert await granted_to(store) == ["kept"]
    assert await granted_to(store, THERE) == ["shared"]
    assert await take_away(store, "kept") == GrantsEnded()


async def the_end_of_a_session_is_reported(store: KernelStore) -> None:
    for name in ("s", "other"):
        await new_session(store, name)
    for name in ("alone", "in a frame", "shared", "twice"):
        await register(store, name)
    for name, scope in (
        ("alone", HERE),
        ("in a frame", FRAME),
        ("shared", HERE),
        ("shared", THERE),
        ("twice", HERE),
        ("twice", FRAME),
    ):
        await grant(store, name, scope)
    told: list[Any] = []
    ended = await store.end_grants("s", reason="over", now=NOW, then=told.append)
    assert told == [ended]
    assert ended.revoked == ("alone", "in a frame", "shared", "twice", "twice")
    assert [result.record.process_id for result in ended.cancelled] == ["alone", "in a frame", "twice"]
    assert ended.preserved == ("shared",)
    assert await granted_to(store, FRAME) == []
    assert await store.end_grants("nobody", reason="over", now=NOW, then=ignored) == GrantsEnded()


async def a_session_that_is_deleted_leaves_no_grants(store: KernelStore) -> None:
    for name in ("s", "other"):
        await new_session(store, name)
    for name in ("alone", "shared"):
        await register(store, name)
        await grant(store, name)
    await grant(store, "shared", THERE)
    ended = await store.delete_session("s", NOW + 1, ignored)
    assert (ended.revoked, ended.preserved) == (("alone", "shared"), ("shared",))
    assert [result.record.process_id for result in ended.cancelled] == ["alone"]
    assert await granted_to(store) == []
    assert await granted_to(store, THERE) == ["shared"]
    [request] = await store.list_process_events("alone", after=0, limit=9)
    assert (request.payload, request.occurred_at_ms) == ({"reason": "session deleted"}, NOW + 1)
    assert await log_of(store, "shared") == []


async def what_was_asked_to_end_before_is_asked_again_without_a_second_event(store: KernelStore) -> None:
    await new_session(store)
    await register(store)
    await grant(store)
    await take_away(store)
    await grant(store)
    before = await everything_of(store)
    ended = await take_away(store)
    assert (ended.revoked, [result.replayed for result in ended.cancelled]) == (("p",), [True])
    assert (await everything_of(store))[:2] == before[:2]
    await append(store)
    assert await log_of(store) == ["process.cancel_requested", "note"]
