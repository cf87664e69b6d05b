"""What a store promises about the background tasks of sessions."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, structs

from sightline.errors import (
    InvalidInput,
    SessionDeleted,
    SessionNotFound,
    TaskConflict,
    TaskNotFound,
    TooManyTasks,
)
from sightline.kernel import KernelStore
from sightline.tasks.model import (
    CancelRequest,
    ChangedTask,
    Ending,
    Flavour,
    NewTask,
    Progress,
    RegisteredTask,
    TaskAttempt,
    TaskChange,
    TaskFailure,
    TaskName,
    TaskRecord,
    TaskResult,
    Transferred,
    Unfolding,
)
from sightline.tasks.monitoring import MonitorRecord, MonitorSpec
from sightline.testing.conformance.steps import NOW, ignored, new_session, refused

DONE = Ending(state="completed", summary="done")
T = TaskName("s", "t")


async def _register(
    store: KernelStore,
    task_id: str = "t",
    session_id: str = "s",
    *,
    flavour: Flavour = "external",
    max_live: int = 100,
    now: int = NOW,
    **facts: Any,
) -> TaskRecord:
    new = NewTask(task_id=task_id, **{"producer": "test", **facts})
    registered = await store.register_task(session_id, new, flavour=flavour, max_live=max_live, now=now, then=ignored)
    assert registered.created
    return registered.record


async def _change(
    store: KernelStore, change: TaskChange, task: TaskName | int = T, *, now: int = NOW + 1
) -> ChangedTask:
    result = await store.change_task(task, change, now=now, then=ignored)
    assert result is not None
    return result


async def _listed(store: KernelStore, session_id: str = "s", *, live: bool = False) -> list[str]:
    return [record.task_id for record in await store.list_tasks(session_id, live=live, limit=100)]


async def _hand(store: KernelStore, *task_ids: str, source: str = "s", target: str = "other") -> list[str]:
    moved = await store.transfer_tasks(source, target, task_ids, now=NOW + 1, then=ignored)
    return [each.after.task_id for each in moved]


async def a_task_is_listed_with_all_that_was_said_of_it(store: KernelStore) -> None:
    await new_session(store)
    told: list[RegisteredTask] = []
    new = NewTask(
        task_id="t",
        kind="observer",
        producer="plugin",
        parent_task_id="p",
        child_session_id="c",
        state="pending",
        cancel_policy="abort_local",
        close_policy="transfer",
        attempt=TaskAttempt(attempt=2, max_attempts=3, idempotency_key="k"),
    )
    registered = await store.register_task("s", new, flavour="managed", max_live=9, now=NOW, then=told.append)
    record = registered.record
    assert record == TaskRecord(
        task_id="t",
        session_id="s",
        generation=record.generation,
        incarnation=store.incarnation,
        flavour="managed",
        kind="observer",
        producer="plugin",
        state="pending",
        cancel_policy="abort_local",
        close_policy="transfer",
        attempt=new.attempt,
        created_at_ms=NOW,
        updated_at_ms=NOW,
        parent_task_id="p",
        child_session_id="c",
    )
    assert registered.created
    assert told == [registered]
    assert await store.get_task(record.name) == await store.get_task(record.generation) == record
    assert await store.list_tasks("s", live=True, limit=9) == (record,)
    assert (await store.load_session("s", 9)).tasks == (record,)


async def what_makes_no_sense_is_refused_by_name(store: KernelStore) -> None:
    await new_session(store)
    for field, facts in (
        ("task_id", {"task_id": " "}),
        ("task_id", {"task_id": "x" * 201}),
        ("producer", {"producer": ""}),
        ("producer", {"producer": "x" * 257}),
        ("parent_task_id", {"parent_task_id": ""}),
        ("parent_task_id", {"parent_task_id": "t"}),
        ("child_session_id", {"child_session_id": " "}),
        ("kind", {"kind": "dream"}),
        ("attempt.attempt", {"attempt": TaskAttempt(attempt=0)}),
        ("attempt.idempotency_key", {"attempt": TaskAttempt(idempotency_key="")}),
    ):
        error = await refused(InvalidInput, _register(store, **facts))
        assert error.field == field
    assert await _listed(store) == []


async def tasks_need_a_session(store: KernelStore) -> None:
    await refused(SessionNotFound, _register(store))
    await refused(SessionNotFound, store.list_tasks("s", live=True, limit=9))
    await refused(SessionNotFound, store.get_task(T))
    await new_session(store)
    await refused(TaskNotFound, store.get_task(T))
    await refused(TaskNotFound, store.get_task(77))
    assert await store.change_task(T, DONE, now=NOW, then=ignored) is None
    assert await store.change_task(77, DONE, now=NOW, then=ignored) is None
    assert await store.remove_task(T, then=ignored) is None
    await store.delete_session("s", NOW, ignored)
    await refused(SessionDeleted, _register(store))
    await refused(SessionDeleted, store.list_tasks("s", live=True, limit=9))


async def a_live_id_is_taken_and_one_that_ended_makes_way(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    first = await _register(store)
    await _register(store, "u")
    await _register(store, session_id="other")
    error = await refused(TaskConflict, _register(store))
    assert (error.session_id, error.task_id) == ("s", "t")
    await _change(store, CancelRequest("enough"))
    await refused(TaskConflict, _register(store))
    await _change(store, DONE)
    again = await _register(store, now=NOW + 5)
    assert again.generation > first.generation
    assert (again.state, again.completed_at_ms, again.created_at_ms) == ("running", UNSET, NOW + 5)
    assert await _listed(store) == ["u", "t"]
    assert await store.get_task(T) == again
    await refused(TaskNotFound, store.get_task(first.generation))


async def the_same_key_finds_the_live_task_it_brought(store: KernelStore) -> None:
    await new_session(store)
    new = NewTask(task_id="t", producer="test", attempt=TaskAttempt(idempotency_key="k"))
    told: list[RegisteredTask] = []

    async def register(new: NewTask) -> RegisteredTask:
        return await store.register_task("s", new, flavour="managed", max_live=1, now=NOW, then=told.append)

    first = await register(new)
    found = await register(structs.replace(new, producer="again"))
    assert (found, told) == (RegisteredTask(first.record, created=False), [first, found])
    await refused(TaskConflict, register(structs.replace(new, attempt=TaskAttempt(idempotency_key="other"))))
    await refused(TaskConflict, register(structs.replace(new, attempt=TaskAttempt())))
    await _change(store, DONE)
    assert (await register(new)).created


async def so_many_live_tasks_and_no_more(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    await _register(store, "a", max_live=2)
    await _register(store, "b", max_live=2)
    error = await refused(TooManyTasks, _register(store, "c", max_live=2))
    assert (error.session_id, error.limit) == ("s", 2)
    await _register(store, "c", "other", max_live=2)
    await _change(store, DONE, TaskName("s", "a"))
    await _register(store, "c", max_live=2)
    assert await _listed(store, live=True) == ["b", "c"]


async def a_live_task_runs_and_waits(store: KernelStore) -> None:
    await new_session(store)
    await _register(store, state="pending")
    running, waiting = Unfolding("running"), Unfolding("waiting")
    for change, kind in (
        (running, "resumed"),
        (running, None),
        (waiting, "waiting"),
        (waiting, None),
        (running, "resumed"),
    ):
        result = await _change(store, change, now=NOW + 7)
        assert (result.record.state, result.kind) == (change.state, kind)
    assert await store.get_task(T) == result.record
    assert result.record.updated_at_ms == NOW + 7


async def progress_is_kept_as_the_latest_word(store: KernelStore) -> None:
    await new_session(store)
    await _register(store)
    assert (await _change(store, Progress("half"))).kind == "progress"
    result = await _change(store, Progress("x" * 3_000), now=NOW + 2)
    assert result.record.progress == "x" * 1_999 + "…"
    [record] = (await store.load_session("s", 9)).tasks
    assert record == result.record


async def an_end_is_kept_with_what_it_came_to(store: KernelStore) -> None:
    await new_session(store)
    for task_id, ending in (
        ("a", DONE),
        ("b", Ending(state="completed")),
        ("c", Ending(state="failed", summary="boom")),
        ("d", Ending(state="failed", code="mine", summary="boom")),
        ("e", Ending(state="cancelled", summary="enough")),
    ):
        await _register(store, task_id)
        result = await _change(store, ending, TaskName("s", task_id))
        assert (result.kind, result.record.state) == (ending.state, ending.state)
        assert result.record.completed_at_ms == NOW + 1
    a, b, c, d, e = await store.list_tasks("s", live=False, limit=9)
    assert (a.result, b.result) == (TaskResult(summary="done"), UNSET)
    assert c.failure == TaskFailure(code="task_failed", summary="boom")
    assert d.failure == TaskFailure(code="mine", summary="boom")
    assert e.cancel_reason == "enough"
    assert await _listed(store, live=True) == []
    assert (await store.load_session("s", 9)).tasks == ()


async def an_end_is_an_end(store: KernelStore) -> None:
    await new_session(store)
    for task_id, first in (
        ("a", Ending(state="completed", summary="first")),
        ("b", Ending(state="failed", summary="first")),
        ("c", Ending(state="cancelled", summary="first")),
    ):
        await _register(store, task_id)
        name = TaskName("s", task_id)
        ended = (await _change(store, first, name)).record
        for late in (
            CancelRequest("too late"),
            Unfolding("running"),
            Unfolding("waiting"),
            Progress("more"),
            Ending(state="completed", summary="other"),
            Ending(state="failed"),
            Ending(state="cancelled"),
        ):
            assert await _change(store, late, name, now=NOW + 9) == ChangedTask(ended)
        assert await store.get_task(name) == ended


async def a_wish_is_kept_and_not_taken_back(store: KernelStore) -> None:
    await new_session(store)
    await _register(store)
    asked = await _change(store, CancelRequest("enough"))
    assert (asked.kind, asked.record.state, asked.record.cancel_reason) == (
        "cancel_requested",
        "cancel_requested",
        "enough",
    )
    assert not asked.record.is_terminal
    for late in (CancelRequest("other"), Unfolding("running"), Unfolding("waiting")):
        assert await _change(store, late) == ChangedTask(asked.record)
    assert (await _change(store, Progress("cleaning up"))).record.state == "cancel_requested"
    assert await _listed(store, live=True) == ["t"]
    ended = await _change(store, DONE)
    assert (ended.kind, ended.record.cancel_reason) == ("completed", "enough")


async def a_late_end_is_of_its_own_registration_only(store: KernelStore) -> None:
    await new_session(store)
    first = await _register(store)
    await _change(store, DONE, first.generation)
    second = await _register(store)
    assert await store.change_task(first.generation, DONE, now=NOW, then=ignored) is None
    assert await store.get_task(second.name) == second
    await store.remove_task(second.name, then=ignored)
    third = await _register(store)
    assert third.generation > second.generation > first.generation
    assert await store.change_task(second.generation, DONE, now=NOW, then=ignored) is None
    assert (await store.get_task(third.name)).state == "running"


async def the_same_id_in_another_session_is_another_task(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    await _register(store)
    theirs = await _register(store, session_id="other")
    await _change(store, CancelRequest("mine"))
    await _change(store, DONE)
    assert await store.get_task(theirs.name) == theirs


async def tasks_are_handed_over_and_their_ends_find_them(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    given = [await _register(store, task_id) for task_id in ("a", "b", "c")]
    await _register(store, "theirs", "other")
    told: list[tuple[Transferred, ...]] = []
    moved = await store.transfer_tasks("s", "other", ["c", "a", "c", "unknown"], now=NOW + 1, then=told.append)
    assert told == [moved]
    assert [each.before for each in moved] == [given[2], given[0]]
    assert [each.after for each in moved] == [
        structs.replace(record, session_id="other", updated_at_ms=NOW + 1) for record in (given[2], given[0])
    ]
    assert await _listed(store) == ["b"]
    assert await _listed(store, "other") == ["theirs", "c", "a"]
    assert (await store.load_session("other", 9)).tasks[1:] == tuple(each.after for each in moved)
    ended = await _change(store, DONE, given[0].generation)
    assert (ended.record.session_id, ended.record.state) == ("other", "completed")
    assert (await store.get_task(TaskName("other", "a"))).state == "completed"
    await refused(TaskNotFound, store.get_task(TaskName("s", "a")))
    await _register(store, "a")


async def tasks_are_handed_over_all_or_none(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    for task_id in ("a", "b"):
        await _register(store, task_id)
    await _register(store, "b", "other")
    error = await refused(TaskConflict, _hand(store, "a", "b"))
    assert (error.session_id, error.task_id) == ("other", "b")
    await refused(SessionNotFound, _hand(store, "a", target="nobody"))
    await refused(SessionNotFound, _hand(store, "a", source="nobody"))
    assert (await _listed(store), await _listed(store, "other")) == (["a", "b"], ["b"])
    await _change(store, DONE, TaskName("other", "b"))
    assert await _hand(store, "a", "b") == ["a", "b"]
    assert (await store.get_task(TaskName("other", "b"))).state == "running"


async def what_has_ended_is_not_handed_over_and_nothing_goes_where_it_is(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    await _register(store, "ended")
    live = await _register(store, "live")
    await _change(store, DONE, TaskName("s", "ended"))
    assert await _hand(store, "ended") == []
    assert await _hand(store) == []
    assert await _hand(store, "live", target="s") == []
    assert await store.get_task(live.name) == live
    assert await _listed(store) == ["ended", "live"]


async def a_task_is_forgotten_however_it_stands(store: KernelStore) -> None:
    await new_session(store)
    for task_id in ("live", "ended"):
        record = await _register(store, task_id)
        if task_id == "ended":
            record = (await _change(store, DONE, record.name)).record
        told: list[TaskRecord | None] = []
        assert await store.remove_task(record.name, then=told.append) == record
        assert await store.remove_task(record.name, then=told.append) is None
        assert told == [record, None]
    assert await _listed(store) == []


async def the_newest_tasks_are_listed_in_their_order(store: KernelStore) -> None:
    await new_session(store)
    for task_id in ("a", "b", "c", "d"):
        await _register(store, task_id)
    await _change(store, DONE, TaskName("s", "c"))
    assert [record.task_id for record in await store.list_tasks("s", live=False, limit=3)] == ["b", "c", "d"]
    assert [record.task_id for record in await store.list_tasks("s", live=True, limit=2)] == ["b", "d"]


async def live_tasks_of_a_kind_are_found_in_all_sessions(store: KernelStore) -> None:
    for session_id in ("s", "other"):
        await new_session(store, session_id)
    await _register(store, "a", kind="subagent")
    await _register(store, "b", kind="monitor")
    await _register(store, "c", "other", kind="subagent")
    await _register(store, "d", kind="subagent")
    await _change(store, DONE, TaskName("s", "d"))
    assert [record.task_id for record in await store.live_tasks_of_kind("subagent")] == ["a", "c"]


async def in_the_life_of_a_store_nothing_is_lost(store: KernelStore) -> None:
    await new_session(store)
    managed = await _register(store, flavour="managed")
    told: list[tuple[TaskRecord, ...]] = []
    assert await store.lose_tasks(now=NOW, then=told.append) == ()
    assert told == [()]
    assert await store.get_task(managed.name) == managed


async def tasks_that_ended_are_kept_for_a_while(store: KernelStore) -> None:
    await new_session(store)
    for index, task_id in enumerate(("a", "b", "c", "live")):
        await _register(store, task_id)
        if task_id != "live":
            await _change(store, DONE, TaskName("s", task_id), now=NOW + index)
    assert await store.purge_tasks(NOW, 9) == 0
    assert await store.purge_tasks(NOW + 2, 1) == 1
    assert await store.purge_tasks(NOW + 2, 9) == 1
    assert await _listed(store) == ["c", "live"]
    assert await store.purge_tasks(NOW + 1_000_000, 9) == 1
    assert await _listed(store) == ["live"]


async def monitors_are_kept_as_they_stand(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")

    async def put(name: str, session_id: str = "s", **facts: Any) -> MonitorRecord:
        spec = MonitorSpec(id=name, command="true", env={"A": "b"}, timeout_ms=7)
        record = MonitorRecord(session_id=session_id, spec=spec, incarnation=store.incarnation, **facts)
        await store.put_monitor(record, then=ignored)
        return record

    assert (await store.list_monitors("s"), await store.list_monitors("nobody")) == ((), ())
    second, first = await put("b"), await put("a")
    theirs = await put("a", "other")
    assert await store.list_monitors("s") == (first, second)
    first = await put("a", state="failed", armed=True, exit_code=3, detail="boom")
    assert await store.list_monitors("s") == (first, second)
    assert await store.monitored_sessions() == ("other", "s")
    await refused(SessionNotFound, put("a", "nobody"))
    await store.delete_session("s", NOW, ignored)
    await refused(SessionDeleted, put("a"))
    assert (await store.list_monitors("s"), await store.list_monitors("other")) == ((), (theirs,))


async def the_tasks_of_a_deleted_session_go_with_it(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    gone = await _register(store)
    kept = await _register(store, session_id="other")
    await store.delete_session("s", NOW, ignored)
    await refused(TaskNotFound, store.get_task(gone.generation))
    assert await store.change_task(gone.generation, DONE, now=NOW, then=ignored) is None
    assert await store.live_tasks_of_kind("other") == (kept,)
