"""A turn from claim to commit, as it goes when nothing is in the way: what is committed, what observers are told."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest
from msgspec import UNSET

from sightline.observation.activities import TurnEnded, TurnStarted
from sightline.observation.events import Committed, TurnActivity
from sightline.queue.materializing import InputMessage
from sightline.queue.model import BatchState, Group, SlotPolicy
from sightline.session.model import Failure, UsageFigures
from sightline.testing.clock import settled
from sightline.turn.agent import AgentError, Turn, TurnOver
from tests.core.worlds import Puppet, World, running, watch

pytestmark = pytest.mark.anyio

JOIN: dict[str, Any] = {"slot_policy": SlotPolicy.JOIN, "merge_key": Group("g")}


async def answers(turn: Turn) -> None:
    turn.text("answer to ")
    turn.text(turn.input[0].content)


async def transcript(world: World) -> list[tuple[str, str, object]]:
    messages = (await world.view()).read_view.messages
    return [(message.role, message.content, message.status) for message in messages]


async def state_of(world: World, text_or_id: str) -> BatchState:
    return (await world.kernel.get_batch("s", text_or_id)).state


async def test_a_turn_becomes_history_and_its_work_is_done() -> None:
    async with running(answers) as world:
        written = await world.send("question", key="host:k")
        view = await world.view()
        user, assistant = view.read_view.messages
        assert (user.role, user.content, user.origin) == ("user", "question", {"source_key": "host:k"})
        assert (assistant.role, assistant.content, assistant.status) == ("assistant", "answer to question", UNSET)
        assert user.turn_id == assistant.turn_id != UNSET
        assert (view.live, view.queue, view.status, view.revision) == (None, (), "idle", 1)
        batch = await world.kernel.get_batch("s", written.batch.batch_id)
        assert (batch.state, batch.attempts, batch.turn_id) == (BatchState.COMPLETED, 1, user.turn_id)
        assert (await world.store.load_session("s", 10)).record.title == "question"


async def test_what_was_said_is_let_go_of_when_the_turn_is_over_without_waiting_for_the_garbage_collector() -> None:
    turns: list[weakref.ref[Turn]] = []

    async def noted(turn: Turn) -> None:
        turns.append(weakref.ref(turn))
        turn.text("a long answer")

    async with running(noted) as world:
        gc.disable()
        try:
            await world.send("question")
            await settled()
            assert [turn() for turn in turns] == [None]
        finally:
            gc.enable()


async def test_observers_are_told_everything_in_this_order() -> None:
    async with running(answers) as world:
        watched = await watch(world)
        await world.send("question")
        assert watched.told == [
            "enqueued",
            "claimed",
            "turn_started",
            "assistant_prose_delta",
            "assistant_prose_delta",
            "completed",
            "turn_ended",
            "committed",
        ]
        turn_ids = {event.turn_id for event in watched.events[1:]}
        assert len(turn_ids) == 1
        assert UNSET not in turn_ids
        assert len({event.data.id for event in watched.events if isinstance(event.data, TurnActivity)}) == 4


async def test_a_turn_shows_its_input_while_it_runs() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("question", key="host:k")
        view = await world.view()
        assert view.live is not None
        assert view.live.input == (InputMessage(role="user", content="question", source_key="host:k"),)
        assert (view.live.attempt, view.live.boundary, view.live.text) == (1, "idle", "")
        assert (view.status, [summary.state for summary in view.queue]) == ("running", [BatchState.CLAIMED])
        await puppet.says("so far")
        live = (await world.view()).live
        assert live is not None
        assert live.text == "so far"


async def test_work_that_joined_is_one_turn_with_an_input_for_each() -> None:
    puppet = Puppet()
    async with running(puppet, start=False) as world:
        for text in ("one", "two"):
            await world.send(text, **JOIN)
        await world.kernel.start()
        await settled()
        [turn] = puppet.turns
        assert [message.content for message in turn.input] == ["one", "two"]
        await puppet.ends()
        assert await transcript(world) == [("user", "one", UNSET), ("user", "two", UNSET)]


async def test_turns_of_one_session_follow_each_other_and_those_of_others_run_beside_them() -> None:
    puppet = Puppet()
    async with running(puppet, session_ids=("s", "other")) as world:
        for text, session_id in (("1", "s"), ("2", "s"), ("3", "other")):
            await world.send(text, session_id=session_id)
        assert [turn.input[0].content for turn in puppet.turns] == ["1", "3"]
        await puppet.ends()
        await puppet.ends()
        assert [turn.input[0].content for turn in puppet.turns] == ["1", "3", "2"]
        await puppet.ends()


async def test_what_a_turn_used_is_added_to_the_session() -> None:
    async def spends(turn: Turn) -> None:
        turn.usage("m", UsageFigures(input_tokens=3, requests=1))
        turn.usage("n", UsageFigures(output_tokens=4, requests=1), source="child:c")

    async with running(spends) as world:
        await world.send("one")
        await world.send("two")
        usage = (await world.view()).usage
        assert usage.totals == UsageFigures(input_tokens=6, output_tokens=8, requests=4)
        assert set(usage.by_model) == {"m", "n"}
        assert usage.by_source == {"agent": {"m": usage.by_model["m"]}, "child:c": {"n": usage.by_model["n"]}}


async def test_an_agent_can_read_what_was_said_before_its_turn() -> None:
    seen: list[list[str]] = []

    async def reads(turn: Turn) -> None:
        seen.append([message.content for message in await turn.messages(3)])
        turn.text(f"answer {len(seen)}")

    async with running(reads) as world:
        for text in ("one", "two", "three"):
            await world.send(text)
        assert seen == [[], ["one", "answer 1"], ["answer 1", "two", "answer 2"]]


async def test_a_turn_that_says_nothing_leaves_only_its_input() -> None:
    async def silent(turn: Turn) -> None:
        pass

    async with running(silent) as world:
        await world.send("question")
        assert await transcript(world) == [("user", "question", UNSET)]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (AgentError("no more coffee"), "no more coffee"),
        (AgentError(""), ""),
        (SystemExit(3), "the agent called exit(3)"),
        (ValueError("a bug"), "ValueError: a bug"),
        (AgentError("no file \udcff"), "no file ?"),
        (OSError(2, "No such file", "/tmp/\udcff"), "FileNotFoundError: [Errno 2] No such file: '/tmp/\\udcff'"),
    ],
)
async def test_a_turn_whose_agent_fails_ends_as_failed_and_keeps_what_was_said(
    error: BaseException, message: str
) -> None:
    async def fails(turn: Turn) -> None:
        turn.text("before it broke")
        raise error

    async with running(fails) as world:
        watched = await watch(world)
        written = await world.send("question")
        view = await world.view()
        failure = Failure("agent_error", message)
        spoken = view.read_view.messages[-1]
        assert (spoken.content, spoken.status, spoken.error) == ("before it broke", "failed", failure)
        batch = await world.kernel.get_batch("s", written.batch.batch_id)
        assert (batch.state, batch.error, batch.attempts) == (BatchState.FAILED, failure, 1)
        assert watched.told[-3:] == ["failed", "turn_ended", "committed"]
        ended, committed = watched.events[-2].data, watched.events[-1].data
        assert isinstance(ended, TurnActivity)
        assert isinstance(ended.event, TurnEnded)
        assert isinstance(committed, Committed)
        assert ended.event.outcome == committed.outcome
        assert ended.event.outcome.error == failure
        assert view.status == "idle"


async def test_an_agent_that_cancels_itself_has_failed() -> None:
    async def cancels_itself(turn: Turn) -> None:
        raise asyncio.CancelledError

    async with running(cancels_itself) as world:
        written = await world.send("question")
        assert await state_of(world, written.batch.batch_id) is BatchState.FAILED
        await world.send("another")
        assert (await world.view()).status == "idle"


async def test_a_failed_turn_does_not_keep_the_next_one_from_running() -> None:
    async def fails_at_first(turn: Turn) -> None:
        if turn.input[0].content == "one":
            raise AgentError("no")
        turn.text("yes")

    async with running(fails_at_first) as world:
        await world.send("one")
        await world.send("two")
        assert [(role, content) for role, content, _ in await transcript(world)] == [
            ("user", "one"),
            ("assistant", ""),
            ("user", "two"),
            ("assistant", "yes"),
        ]


async def test_an_agent_that_goes_on_talking_after_its_turn_is_told_that_it_is_over() -> None:
    kept: list[Turn] = []

    async def leaves_something_running(turn: Turn) -> None:
        turn.text("done")
        kept.append(turn)

    async with running(leaves_something_running) as world:
        await world.send("question")
        before = await world.view()
        with pytest.raises(TurnOver):
            kept[0].text("more")
        with pytest.raises(TurnOver):
            kept[0].model_request()
        assert await world.view() == before


async def test_what_an_agent_does_to_its_own_things_changes_nothing_that_was_shown() -> None:
    args: dict[str, Any] = {"a": [1]}

    async def meddles(turn: Turn) -> None:
        turn.policy["limits"]["turns"] = 99

        async def run() -> dict[str, Any]:
            args["a"].append(2)
            return args

        await turn.tool_call("tool", args, run)
        args["a"].append(3)
        await blocked.wait()

    blocked = asyncio.Event()
    async with running(meddles, session_ids=()) as world:
        await world.kernel.create_session("s", policy={"limits": {"turns": 1}})
        await world.send("question")
        view = await world.view()
        assert view.policy == {"limits": {"turns": 1}}
        assert view.live is not None
        [call] = view.live.tool_calls
        assert (call.args, call.output) == ({"a": [1]}, {"a": [1, 2]})
        blocked.set()
        [part] = (await world.view()).read_view.messages[-1].parts or []
        assert (part["args"], part["output"]) == ({"a": [1]}, {"a": [1, 2]})


async def test_a_tool_whose_output_json_cannot_hold_has_failed_and_the_turn_is_told() -> None:
    async def calls(turn: Turn) -> None:
        async def run() -> object:
            return object()

        await turn.tool_call("tool", {}, run)

    async with running(calls) as world:
        written = await world.send("question")
        batch = await world.kernel.get_batch("s", written.batch.batch_id)
        assert (batch.state, batch.attempts) == (BatchState.FAILED, 1)
        [part] = (await world.view()).read_view.messages[-1].parts or []
        assert part["state"] == "failed"


async def test_numbers_that_json_has_no_word_for_become_null_and_the_turn_is_committed_once() -> None:
    async def calls(turn: Turn) -> None:
        async def run() -> object:
            return {1: float("nan"), "x": float("inf")}

        await turn.tool_call("tool", {"a": float("nan")}, run)

    async with running(calls) as world:
        written = await world.send("question")
        batch = await world.kernel.get_batch("s", written.batch.batch_id)
        assert (batch.state, batch.attempts) == (BatchState.COMPLETED, 1)
        [part] = (await world.view()).read_view.messages[-1].parts or []
        assert (part["args"], part["output"]) == ({"a": None}, {"1": None, "x": None})


async def test_a_turn_longer_than_its_claim_is_committed_all_the_same() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        written = await world.send("question")
        await world.clock.run_for(20 * 60.0)
        await puppet.says("at last")
        await puppet.ends()
        assert len(puppet.turns) == 1
        batch = await world.kernel.get_batch("s", written.batch.batch_id)
        assert (batch.state, batch.attempts) == (BatchState.COMPLETED, 1)
        assert await transcript(world) == [("user", "question", UNSET), ("assistant", "at last", UNSET)]


async def test_the_times_of_a_turn_are_those_of_the_clock() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        begun = world.clock.now_ms()
        await world.send("question")
        world.clock.advance(3.0)
        await puppet.says("x")
        world.clock.advance(4.0)
        await puppet.ends()
        started = watched.events[watched.told.index("turn_started")]
        assert isinstance(started.data, TurnActivity)
        assert isinstance(started.data.event, TurnStarted)
        assert [event.at_ms - begun for event in watched.events][-4:] == [3_000, 7_000, 7_000, 7_000]
        user, assistant = (await world.view()).read_view.messages
        assert (user.at_ms - begun, assistant.at_ms - begun) == (0, 7_000)
