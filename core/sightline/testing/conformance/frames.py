"""What a store promises about agent frames: the newest one is the transcript, the others are behind it."""

from __future__ import annotations

from msgspec import structs

from sightline.errors import TurnCommitConflict
from sightline.kernel import KernelStore
from sightline.session.model import INITIAL_FRAME
from sightline.testing.conformance.steps import (
    claim,
    commit,
    commit_of,
    enqueue,
    message,
    new_session,
    refused,
    run_turn,
)
from sightline.turn.commit import FrameSwitch


def _frame(name: str, *contents: str) -> FrameSwitch:
    """A frame that begins with these messages."""
    messages = tuple(
        message(f"{name}:{index}", content=content, agent_frame_id=name) for index, content in enumerate(contents)
    )
    return FrameSwitch(frame_id=name, reason="compaction", messages=messages)


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
