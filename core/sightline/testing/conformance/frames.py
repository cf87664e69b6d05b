"""What a store promises about agent frames: the newest one is the transcript, the others are behind it."""

from __future__ import annotations

from msgspec import structs

from sightline.errors import QueueFull, SessionDeleted, SessionNotFound, TurnCommitConflict
from sightline.kernel import KernelStore
from sightline.session.model import INITIAL_FRAME
from sightline.testing.conformance.steps import (
    NOW,
    claim,
    commit,
    commit_of,
    draft,
    enqueue,
    ignored,
    message,
    names_of,
    new_session,
    offer,
    refused,
    run_turn,
)
from sightline.turn.commit import FollowUp, FrameSwitch


def _frame(name: str, *contents: str) -> FrameSwitch:
    """A frame that begins with these messages."""
    messages = tuple(
        message(f"{name}:{index}", content=content, agent_frame_id=name) for index, content in enumerate(contents)
    )
    return FrameSwitch(frame_id=name, reason="compaction", messages=messages)


def _leaving(task: str) -> FrameSwitch:
    """A frame that another turn goes on in."""
    left = FollowUp(turn_id="t1:agent-frame:1", batch_id=f"left:{task}", draft=draft(task))
    return structs.replace(_frame("f1", "a"), follow_up=left)


async def _frames(store: KernelStore) -> list[tuple[str, str | None, str, str]]:
    return [
        (frame.frame_id, frame.previous_frame_id, frame.reason, frame.status) for frame in await store.list_frames("s")
    ]


async def _transcript(store: KernelStore, newest: int = 100) -> tuple[list[str], bool]:
    state = await store.load_session("s", newest)
    return [one.content for one in state.messages], state.truncated


async def _turn(store: KernelStore, revision: int, says: str, frame: FrameSwitch | None = None) -> None:
    await enqueue(store, f"k{revision}")
    await run_turn(store, revision=revision, turn=f"t{revision}", says=says, frame=frame)


async def a_frame_begins_behind_the_turn_that_began_it(store: KernelStore) -> None:
    await new_session(store)
    await _turn(store, 0, "before")
    await enqueue(store, "switch")
    result = await run_turn(store, revision=1, turn="switch", says="last", frame=_frame("f1", "sum", "go on"))
    assert (result.revision, result.agent_frame_id) == (2, "f1")
    assert (await store.load_session("s", 10)).record.agent_frame_id == "f1"
    assert await _transcript(store) == (["sum", "go on"], False)
    await _turn(store, 2, "after")
    assert await _transcript(store) == (["sum", "go on", "after"], False)
    assert (await store.load_session("s", 10)).record.agent_frame_id == "f1"


async def a_frame_may_begin_with_nothing(store: KernelStore) -> None:
    await new_session(store)
    await _turn(store, 0, "before", _frame("f1"))
    assert await _transcript(store) == ([], False)


async def only_the_frames_own_messages_count_as_left_out(store: KernelStore) -> None:
    await new_session(store)
    await _turn(store, 0, "before", _frame("f1", "a", "b", "c"))
    assert await _transcript(store, 2) == (["b", "c"], True)
    assert await _transcript(store, 3) == (["a", "b", "c"], False)


async def what_was_before_a_frame_can_be_paged_back_to(store: KernelStore) -> None:
    await new_session(store)
    await _turn(store, 0, "before", _frame("f1", "a", "b"))
    await _turn(store, 1, "after", _frame("f2", "c"))
    newest = await store.page_messages("s", before=None, limit=4)
    assert [one.content for one in newest.messages] == ["a", "b", "after", "c"]
    oldest = await store.page_messages("s", before=newest.next, limit=4)
    assert ([one.content for one in oldest.messages], oldest.next) == (["before"], None)


async def a_reset_goes_back_to_the_initial_frame(store: KernelStore) -> None:
    await new_session(store)
    await _turn(store, 0, "before", _frame("f1", "a"))
    await enqueue(store, "reset")
    result = await run_turn(store, revision=1, turn="reset", reset=True, messages=())
    assert result.agent_frame_id == INITIAL_FRAME
    await _turn(store, 2, "anew")
    assert await _transcript(store) == (["anew"], False)
    assert (await store.load_session("s", 10)).record.agent_frame_id == INITIAL_FRAME


async def frames_are_kept_in_the_order_in_which_they_began(store: KernelStore) -> None:
    await new_session(store)
    assert await _frames(store) == [("initial", None, "initial", "active")]
    await _turn(store, 0, "before", _frame("f1", "a"))
    await _turn(store, 1, "after", structs.replace(_frame("f2"), reason="continue_as"))
    assert await _frames(store) == [
        ("initial", None, "initial", "superseded"),
        ("f1", "initial", "compaction", "superseded"),
        ("f2", "f1", "continue_as", "active"),
    ]
    assert [frame.created_at_ms for frame in await store.list_frames("s")] == [NOW] * 3
    await enqueue(store, "reset")
    await run_turn(store, revision=2, turn="reset", reset=True, messages=())
    assert await _frames(store) == [("initial", None, "initial", "active")]


async def the_frames_of_a_session_go_with_it(store: KernelStore) -> None:
    await refused(SessionNotFound, store.list_frames("s"))
    await new_session(store)
    await _turn(store, 0, "before", _frame("f1", "a"))
    await store.delete_session("s", NOW, ignored)
    await refused(SessionDeleted, store.list_frames("s"))


async def what_a_turn_leaves_to_its_frame_is_open_work_of_a_turn_of_its_own(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0, frame=_leaving("task"))
    left = (await commit(store, work)).follow_up
    assert left is not None
    assert (left.batch_id, left.turn_id, left.state, left.attempts) == ("left:task", "t1:agent-frame:1", "pending", 0)
    assert (await store.load_session("s", 10)).open_batches == (left,)
    taken = await claim(store, turn="another")
    assert (taken.turn_id, taken.attempt, names_of(taken)) == ("t1:agent-frame:1", 1, ["left:task"])
    await commit(store, commit_of(taken, revision=1))
    assert (await store.load_session("s", 10)).open_batches == ()


async def what_a_turn_leaves_comes_behind_what_waits_and_counts_as_open(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "first")
    held = await claim(store)
    await enqueue(store, "second")
    await commit(store, commit_of(held, revision=0, frame=_leaving("task")))
    opened = (await store.load_session("s", 10)).open_batches
    assert [batch.batch_id for batch in opened] == ["s:second", "left:task"]
    await refused(QueueFull, offer(store, draft("third"), max_open=2))
    await offer(store, draft("third"), max_open=3)


async def a_repeated_commit_leaves_nothing_twice_and_finds_what_it_left(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0, frame=_leaving("task"))
    first = await commit(store, work)
    assert await commit(store, work) == first
    [left] = (await store.load_session("s", 10)).open_batches
    await refused(TurnCommitConflict, commit(store, structs.replace(work, frame=_leaving("another task"))))
    await refused(TurnCommitConflict, commit(store, structs.replace(work, frame=_frame("f1", "a"))))
    taken = await claim(store)
    found = (await commit(store, work)).follow_up
    assert found is not None
    assert (found.batch_id, found.state) == (left.batch_id, "claimed")
    await commit(store, commit_of(taken, revision=1))
    assert (await commit(store, work)).follow_up is None


async def a_frame_begins_once_however_often_it_is_committed(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0, frame=_frame("f1", "a"))
    first = await commit(store, work)
    # A repeated turn makes its ids anew.
    assert await commit(store, structs.replace(work, frame=_frame("f2", "a"))) == first
    assert await _transcript(store) == (["a"], False)
    await refused(TurnCommitConflict, commit(store, structs.replace(work, frame=_frame("f1", "b"))))
    await refused(TurnCommitConflict, commit(store, structs.replace(work, frame=None)))
