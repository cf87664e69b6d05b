"""The demo agent, command by command: the texts are part of the contract."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from sightline.agents.demo import COUNTDOWN, countdown, demo
from sightline.observation.activities import (
    Activity,
    AssistantProseDelta,
    ModelRequestStarted,
    ToolCallCompleted,
    ToolCallStarted,
)
from sightline.process.functions import Functions
from sightline.process.model import ProcessEvent, SuccessOutput
from sightline.queue.materializing import InputMessage
from sightline.queue.model import BatchState, Group, SlotPolicy
from sightline.session.model import Message
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import World, running

COMMANDS = ("echo", "stream", "sleep", "fail", "tool", "ask", "steps", "spawn")


@dataclass
class Played:
    """One turn of the demo agent: what it showed, when, and how it ended."""

    clock: ManualClock
    shown: list[tuple[float, Activity]] = field(default_factory=list)
    answer: str = ""
    error: BaseException | None = None

    @property
    def deltas(self) -> list[str]:
        return [activity.text for _, activity in self.shown if isinstance(activity, AssistantProseDelta)]

    @property
    def took(self) -> float:
        return self.clock.monotonic()


def turn_on(played: Played, *inputs: str) -> Turn:
    async def history(count: int) -> tuple[Message, ...]:
        return ()

    return Turn(
        session_id="s",
        turn_id="t",
        attempt=1,
        input=tuple(InputMessage(role="user", content=text) for text in inputs),
        policy={},
        clock=played.clock,
        emit=lambda activity, _: played.shown.append((played.clock.monotonic(), activity)),
        history=history,
    )


async def play(*inputs: str) -> Played:
    """The turn on these inputs; time jumps to whatever the agent waits for."""
    played = Played(ManualClock())
    turn = turn_on(played, *inputs)
    agent = asyncio.create_task(demo(turn))
    await settled()
    while not agent.done():
        played.clock.jump()
        await settled()
    played.answer, played.error = turn.answer, agent.exception()
    return played


def played(*inputs: str) -> Played:
    return asyncio.run(play(*inputs))


@given(st.text(max_size=200))
@example("")
@example(" ")
@example("one two  three\tfour\n\nfive ")
@example("  leading and trailing  ")
@example("a\u00a0b\u2003c\u2028d\u3000e\u200bf")
@example("👩‍👩‍👧‍👦 e\u0301 \u202eabc\u202c ﷽")
@example("\x00\x1c\x85")
def test_an_echo_is_its_text_exactly_and_so_are_its_deltas_joined(text: str) -> None:
    turn = played(f"echo {text}")
    assert turn.error is None
    assert turn.answer == text
    assert "".join(turn.deltas) == text
    assert "" not in turn.deltas


def test_an_echo_comes_word_by_word() -> None:
    assert played("echo one two  three ").deltas == ["one", " two", "  three", " "]


@pytest.mark.parametrize(("count", "every"), [(0, 0), (1, 0), (5, 0), (100, 0), (3, 50)])
def test_a_stream_counts_its_deltas_and_says_when_each_was_shown(count: int, every: int) -> None:
    turn = played(f"stream {count} every {every}" if every else f"stream {count}")
    assert len(turn.deltas) == count
    for index, (at, activity) in enumerate(turn.shown):
        assert isinstance(activity, AssistantProseDelta)
        match = re.fullmatch(r"seq=(\d+) t=(\d+) ", activity.text)
        assert match is not None
        assert int(match[1]) == index
        assert int(match[2]) == 1_760_000_000_000_000_000 + round(at * 1e9)
        assert at == pytest.approx(index * every / 1000)
    assert turn.answer == "".join(turn.deltas)


@pytest.mark.parametrize("size", [0, 10, 29, 30, 31, 100, 5_000])
def test_a_delta_is_padded_to_its_size_and_never_cut(size: int) -> None:
    for delta in played(f"stream 2 size {size}").deltas:
        bare = delta.rstrip(".")
        assert re.fullmatch(r"seq=\d t=\d{19} ", bare)
        assert len(delta.encode()) == max(size, len(bare))


def test_a_stream_takes_both_options_in_their_order() -> None:
    turn = played("stream 2 every 1000 size 64")
    assert ([len(delta) for delta in turn.deltas], turn.took) == ([64, 64], 1.0)


@pytest.mark.parametrize("text", ["stream 1000001", "stream 1 size 1000001", "stream 1 every 3600001", "sleep 3600001"])
def test_a_request_beyond_all_measure_fails_and_says_what_is_possible(text: str) -> None:
    error = played(text).error
    assert isinstance(error, AgentError)
    assert "up to" in str(error)


@pytest.mark.parametrize(("text", "answer", "took"), [("sleep 1500", "slept 1500", 1.5), ("sleep 0", "slept 0", 0.0)])
def test_a_sleep_is_quiet_and_then_says_how_long(text: str, answer: str, took: float) -> None:
    turn = played(text)
    assert (turn.answer, turn.deltas, turn.took) == (answer, [answer], took)


@pytest.mark.anyio
async def test_a_sleep_can_be_cancelled() -> None:
    async with running(demo) as world:
        await world.send("sleep 60000")
        await world.kernel.cancel_turn("s")
        view = await world.view()
        assert view.status == "idle"
        assert (view.read_view.messages[-1].content, view.read_view.messages[-1].status) == ("", "cancelled")


@pytest.mark.parametrize("text", ["", "with these words", " two  spaces ", "line\nline"])
def test_a_failure_fails_with_its_text(text: str) -> None:
    error = played(f"fail {text}").error
    assert isinstance(error, AgentError)
    assert str(error) == text


@pytest.mark.anyio
async def test_a_failed_turn_shows_the_text_without_decoration() -> None:
    async with running(demo) as world:
        written = await world.send("fail with these words")
        batch = await world.kernel.get_batch("s", written.batch.batch_id)
        assert batch.state is BatchState.FAILED
        assert batch.error is not UNSET
        assert (batch.error.code, batch.error.message) == ("agent_error", "with these words")


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ('tool add {"a": 1, "b": 2}', "3"),
        ("tool add [1, 2.5, -3]", "0.5"),
        ("tool add {}", "0"),
        ("tool add", "0"),
        ("tool now", "1760000000000"),
        ('tool slow {"ms": 30}', "waited 30 ms"),
        ("tool slow", "waited 1000 ms"),
    ],
)
def test_a_tool_is_called_and_its_output_is_the_answer(text: str, answer: str) -> None:
    turn = played(text)
    assert turn.answer == answer
    started, completed = (activity for _, activity in turn.shown[:2])
    assert isinstance(started, ToolCallStarted)
    assert isinstance(completed, ToolCallCompleted)
    assert (completed.name, completed.state) == (started.name, "completed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tool nothing {}", "there is no tool nothing; there are add, now, slow"),
        ("tool add {", "the arguments of tool add are not JSON"),
        ("tool add {} {}", "the arguments of tool add are not JSON"),
        ('tool add {"a": NaN}', "the arguments of tool add are not JSON"),
        ("tool add [Infinity]", "the arguments of tool add are not JSON"),
        ("tool add " + "[" * 100_000, "the arguments of tool add are not JSON"),
        ("tool add [" + "9" * 5_000 + "]", "the arguments of tool add are not JSON"),
        ('tool add ["1"]', 'add takes numbers, as in {"a": 1, "b": 2}'),
        ("tool add [true]", 'add takes numbers, as in {"a": 1, "b": 2}'),
        ("tool add 7", 'add takes numbers, as in {"a": 1, "b": 2}'),
        ('tool slow {"ms": -1}', 'slow takes {"ms": N} with N from 0 to 3600000'),
        ('tool slow {"ms": true}', 'slow takes {"ms": N} with N from 0 to 3600000'),
    ],
)
def test_a_tool_that_cannot_be_called_so_fails_and_says_why(text: str, message: str) -> None:
    error = played(text).error
    assert isinstance(error, AgentError)
    assert str(error) == message


@pytest.mark.parametrize(("text", "took"), [("steps 3", 0.0), ("steps 3 every 500", 1.5), ("steps 0", 0.0)])
def test_steps_are_as_many_requests_and_say_nothing(text: str, took: float) -> None:
    turn = played(text)
    count = int(text.split()[1])
    assert [activity for _, activity in turn.shown] == [
        ModelRequestStarted(protocol_iteration=number) for number in range(1, count + 1)
    ]
    assert (turn.answer, turn.took) == ("", took)


@pytest.mark.parametrize("text", ["stream 10000", "steps 10000"])
def test_a_busy_turn_lets_others_run(text: str) -> None:
    async def rounds_of_others() -> int:
        rounds = 0
        turn = asyncio.ensure_future(demo(turn_on(Played(ManualClock()), text)))
        while not turn.done():
            rounds += 1
            await asyncio.sleep(0)
        return rounds

    assert asyncio.run(rounds_of_others()) > 100


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "hello",
        "ECHO hello",
        "echo\thello",
        "stream",
        "stream x",
        "stream -1",
        "stream ٣",
        "stream 1 size 2 every 3",
        "stream 1 every",
        "stream 1 ",
        "stream  1",
        "sleep",
        "sleep 1.5",
        "sleep 1 2",
        "steps",
        "steps x",
        "tool",
        "tool ",
        "ask",
        "ask  ",
        "spawn",
        "spawn 3",
        "spawn countdown",
        "spawn countdown x",
        "spawn countdown 3 wake every 5",
        "spawn countdown 3 every 5 wake up",
        "x" * 10_000,
    ],
)
def test_anything_else_gets_a_short_friendly_answer_that_lists_the_commands(text: str) -> None:
    turn = played(text)
    assert turn.error is None
    for command in COMMANDS:
        assert re.search(rf"^{command} ", turn.answer, re.MULTILINE)
    assert len(turn.answer) < 1_000
    assert len(turn.deltas) > 10
    assert turn.took > 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "text"),
    [("this one", "this one"), ("", ""), (True, "true"), (None, "null"), ({"a": [1]}, '{"a": [1]}')],
)
async def test_ask_opens_a_question_and_says_what_was_answered(answer: object, text: str) -> None:
    async with running(demo) as world:
        await world.send("ask Which one?\n(of two)")
        [request] = (await world.view()).requests
        assert (request["kind"], request["prompt"], "options" in request) == ("question", "Which one?\n(of two)", False)
        await world.kernel.answer("s", request["request_id"], answer)
        assert (await world.view()).read_view.messages[-1].content == f"answered: {text}"


@pytest.mark.anyio
async def test_questions_of_one_turn_are_asked_one_after_the_other() -> None:
    async with running(demo, start=False) as world:
        for name in ("one", "two"):
            await world.send(f"ask {name}?", slot_policy=SlotPolicy.JOIN, merge_key=Group("g"))
        await world.kernel.start()
        for name in ("one", "two"):
            [request] = (await world.view()).requests
            assert request["prompt"] == f"{name}?"
            await world.kernel.answer("s", request["request_id"], f"it is {name}")
        assert (await world.view()).read_view.messages[-1].content == "answered: it is one\nanswered: it is two"


def countdowns() -> Functions:
    functions = Functions()
    functions.process(COUNTDOWN)(countdown)
    return functions


async def logged(world: World, process_id: str, event_type: str | None = None) -> list[ProcessEvent]:
    events = await world.store.list_process_events(process_id, after=0, limit=1000, event_type=event_type)
    return [event for event in events if not event.event_type.startswith("process.")]


@pytest.mark.anyio
async def test_a_countdown_reports_each_step_and_that_it_is_done_and_the_turn_has_ended_long_before() -> None:
    async with running(demo, functions=countdowns()) as world:
        began = world.clock.now_ms()
        await world.send("spawn countdown 3 every 300")
        view = await world.view()
        [shown] = view.processes
        process_id = shown["process_id"]
        assert (view.status, view.read_view.messages[-1].content) == ("idle", f"started {process_id}")
        assert shown["descriptor"] == {"kind": "function", "label": "countdown 3"}
        await world.clock.run_for(1.0)
        events = await logged(world, process_id)
        assert [(event.event_type, event.payload) for event in events] == [
            ("progress", {"done": 1, "total": 3}),
            ("progress", {"done": 2, "total": 3}),
            ("progress", {"done": 3, "total": 3}),
            ("done", {"total": 3}),
        ]
        assert [event.occurred_at_ms - began for event in events] == [300, 600, 900, 900]
        assert await world.kernel.processes.end_of(process_id, 1.0) == SuccessOutput(value=3)
        assert len((await world.view()).read_view.messages) == 2


@pytest.mark.anyio
async def test_a_countdown_wakes_its_session_once_in_a_turn_that_shows_its_cause() -> None:
    async with running(demo, functions=countdowns()) as world:
        await world.send("spawn countdown 2 wake")
        messages = (await world.view()).read_view.messages
        assert [(message.role, message.content) for message in messages[2:]] == [
            ("system", f"Process {(process := messages[1].content[8:])} reported done (event 3): counted to 2"),
            ("assistant", f"woken by {process}"),
        ]
        assert not isinstance(origin := messages[2].origin, UnsetType)
        assert (origin["type"], origin["process_id"], origin["event_type"]) == ("process", process, "done")


@pytest.mark.anyio
async def test_a_countdown_goes_on_where_it_was_when_its_worker_died() -> None:
    store = MemoryStore(ManualClock())
    async with running(demo, functions=countdowns(), store=store) as world:
        await world.send("spawn countdown 4 every 1000 wake")
        [shown] = (await world.view()).processes
        await world.clock.run_for(2.5)
    async with running(demo, functions=countdowns(), store=store, session_ids=()) as world:
        await world.clock.run_for(5.0)
        events = await logged(world, shown["process_id"], "progress")
        assert [event.payload["done"] for event in events] == [1, 2, 3, 4]
        assert (await world.view()).read_view.messages[-1].content == f"woken by {shown['process_id']}"


@pytest.mark.anyio
async def test_a_countdown_has_its_bounds() -> None:
    async with running(demo, functions=countdowns()) as world:
        await world.send("spawn countdown 10001")
        [batch] = await world.store.list_batches("s", pending_only=False, limit=9)
        assert batch.state is BatchState.FAILED
        assert (await world.view()).processes == ()


def test_several_inputs_are_done_one_after_the_other_and_their_answers_are_lines() -> None:
    turn = played("echo one", "sleep 10", "echo  two ", "echo ")
    assert turn.answer == "one\nslept 10\n two \n"


def test_an_input_that_fails_ends_the_turn_there() -> None:
    turn = played("echo one", "fail no", "echo two")
    assert str(turn.error) == "no"
    assert turn.answer == "one\n"


@pytest.mark.anyio
async def test_inputs_that_were_joined_get_one_message_for_answer() -> None:
    async with running(demo, start=False) as world:
        for text in ("echo one", "echo two"):
            await world.send(text, slot_policy=SlotPolicy.JOIN, merge_key=Group("g"))
        await world.kernel.start()
        messages = (await world.view()).read_view.messages
        assert [(message.role, message.content) for message in messages] == [
            ("user", "echo one"),
            ("user", "echo two"),
            ("assistant", "one\ntwo"),
        ]
