"""The forms of an agent: generators of text, and functions that block, in threads beside the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sightline.agents.forms import as_agent
from sightline.agents.loading import tools_of
from sightline.observation.model import Observation
from sightline.session.model import Message, UsageFigures
from sightline.stores.memory import MemoryStore
from sightline.testing.clock import ManualClock, settled
from sightline.turn.agent import Agent, Turn, TurnOver
from sightline.turn.blocking import BlockingTurn
from tests.core.worlds import World, draft, running, watch

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def asked(agent: object, *inputs: str) -> AsyncIterator[World]:
    async with running(as_agent(agent)) as world:
        for text in inputs or ("question",):
            await world.send(text)
        yield world


async def answered(world: World, session_id: str = "s") -> Message:
    """The newest message, once the agent has ended."""
    view = await when(world, lambda view: view.status == "idle" and len(view.read_view.messages) > 1, session_id)
    return view.read_view.messages[-1]


async def when(world: World, holds: Callable[[Observation], bool], session_id: str = "s") -> Observation:
    """The view once this holds: threads are not seen by `settled`."""
    async with asyncio.timeout(10):
        while not holds(view := await world.kernel.observe(session_id)):  # noqa: ASYNC110 - a thread changes it
            await asyncio.sleep(0.001)
    return view


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():  # noqa: ASYNC110 - what is waited for is a thread's
            await asyncio.sleep(0.001)


# Generators


async def test_what_an_async_generator_yields_is_said() -> None:
    async def agent(turn: Turn) -> AsyncGenerator[str]:
        yield "you said "
        await turn.sleep(0)
        yield turn.input[0].content

    async with asked(agent, "hello") as world:
        assert (await answered(world)).content == "you said hello"


async def test_an_async_generator_that_never_waits_lets_others_run_and_can_be_cancelled() -> None:
    ended: list[str] = []

    async def agent(turn: Turn) -> AsyncGenerator[str]:
        try:
            while True:
                yield "x"
        finally:
            ended.append("closed")

    async with running(as_agent(agent)) as world:
        written = await world.kernel.enqueue(draft("question"))
        for _ in range(50):
            await asyncio.sleep(0)
        await world.kernel.cancel_turn("s")
        batch = await world.kernel.wait_for_batch("s", written.batch.batch_id, timeout=1)
        assert batch.state == "cancelled"
        assert set((await answered(world)).content) == {"x"}
        assert ended == ["closed"]


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_generator_of_something_else_fails_its_turn(kind: str) -> None:
    async def speaks_numbers(turn: Turn) -> AsyncGenerator[Any]:
        yield "one"
        yield 2

    def says_numbers(turn: BlockingTurn) -> Generator[Any]:
        yield "one"
        yield 2

    async with asked(speaks_numbers if kind == "async" else says_numbers) as world:
        message = await answered(world)
        assert (message.content, message.status) == ("one", "failed")
        assert "speaks text, not int" in str(message.error)


async def test_what_a_plain_generator_yields_is_said_from_a_thread_of_its_own() -> None:
    threads: list[threading.Thread] = []

    def agent(turn: BlockingTurn) -> Generator[str]:
        threads.append(threading.current_thread())
        for word in turn.input[0].content.split():
            yield word + "."

    async with asked(agent, "a b c") as world:
        assert (await answered(world)).content == "a.b.c."
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon


async def test_a_plain_generator_is_closed_when_its_turn_is_cancelled() -> None:
    closed, waits = threading.Event(), threading.Event()

    def agent(turn: BlockingTurn) -> Generator[str]:
        try:
            yield "so far"
            waits.wait(10)
            yield "never"
        finally:
            closed.set()

    async with asked(agent) as world:
        await when(world, lambda view: view.live is not None and view.live.text == "so far")
        await world.kernel.cancel_turn("s")
        await settled()
        waits.set()
        message = await answered(world)
        assert (message.content, message.status) == ("so far", "cancelled")
        await until(closed.is_set)


# Functions that block


async def test_a_function_says_and_asks_all_that_a_turn_offers() -> None:
    def agent(turn: BlockingTurn) -> None:
        turn.model_request()
        turn.reasoning("hm")
        turn.text("I know ")
        turn.text(f"{len(turn.messages())} messages; ")
        total = turn.tool_call("add", {"a": 1}, lambda: 1 + len(turn.checkpoint()))
        turn.usage("m", UsageFigures(input_tokens=3))
        turn.sleep(0)
        turn.text(f"{total} {turn.attempt} {turn.cancelled} {turn.session_id}")

    async with asked(agent) as world:
        message = await answered(world)
        assert [part["type"] for part in message.parts or []] == ["reasoning", "text", "tool_call", "text"]
        assert message.content == "I know 0 messages; 1 1 False s"
        assert (await world.view()).usage.totals.input_tokens == 3


async def test_a_function_takes_back_what_it_said_and_tells_of_trouble() -> None:
    def agent(turn: BlockingTurn) -> None:
        turn.model_request()
        turn.text("nonsense")
        turn.retract()
        turn.retrying("nonsense", wait_seconds=0.5, attempt=2, max_attempts=3)
        turn.error("it was nonsense")
        turn.text("sense")

    async with running(as_agent(agent)) as world:
        watched = await watch(world)
        await world.send("question")
        assert (await answered(world)).content == "sense"
        told = watched.told
        assert told.index("retracted") < told.index("retry_status") < told.index("error")


async def test_a_function_begins_another_frame_and_hears_at_once_what_is_none() -> None:
    def agent(turn: BlockingTurn) -> None:
        with pytest.raises(TypeError, match="a frame begins with"):
            turn.continue_as([("nobody", "x")])  # type: ignore[list-item]
        if turn.input[0].content == "go on":
            return
        turn.continue_as((pair for pair in [("system", "so far")]), task="go on")  # type: ignore[misc]

    async with asked(agent) as world:
        view = await when(world, lambda view: view.revision > 1)
        assert [message.content for message in view.read_view.messages][:2] == ["so far", "go on"]


async def test_a_function_asks_people_and_its_thread_waits_with_the_turn() -> None:
    def agent(turn: BlockingTurn) -> None:
        turn.text("I " + turn.ask("may I?", options=["may", "may not"]))

    async with asked(agent) as world:
        view = await when(world, lambda view: view.status == "waiting")
        await world.kernel.answer("s", view.requests[0]["request_id"], "may")
        assert (await answered(world)).content == "I may"


async def test_what_a_function_did_and_wrote_down_is_not_done_again_by_the_next_attempt() -> None:
    threads: list[bool] = []
    first = threading.Event()

    def agent(turn: BlockingTurn) -> None:
        here = threading.current_thread()

        def effect() -> str:
            threads.append(threading.current_thread() is here)
            return "done"

        turn.text(f"{turn.idempotent('effect', effect)} {turn.recorded('place')}")
        turn.record("place", turn.attempt)
        if not first.is_set():
            first.set()
            turn.sleep(1_000)

    store = MemoryStore(ManualClock())
    async with running(as_agent(agent), store=store) as world:
        await world.kernel.enqueue(draft("question"))
        await until(first.is_set)
        await world.kernel.stop()
    async with running(as_agent(agent), store=store, session_ids=()) as world:
        assert (await answered(world)).content == "done 1"
    assert threads == [True]


async def test_a_tool_of_a_function_runs_in_its_thread_and_what_it_raises_arrives_there() -> None:
    caught: list[object] = []

    def agent(turn: BlockingTurn) -> None:
        here = threading.current_thread()

        def tool() -> None:
            caught.append(threading.current_thread() is here)
            raise KeyError("lost")

        try:
            turn.tool_call("t", {}, tool)
        except KeyError as error:
            caught.append(error)
        turn.text("went on")

    async with asked(agent) as world:
        message = await answered(world)
        assert message.content == "went on"
        assert [part.get("state") for part in message.parts or []] == ["failed", None]
    assert caught[0] is True
    assert isinstance(caught[1], KeyError)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), StopIteration(1), GeneratorExit()])
async def test_a_tool_that_raises_what_no_loop_survives_fails_its_call_alone(error: BaseException) -> None:
    def agent(turn: BlockingTurn) -> None:
        def tool() -> None:
            raise error

        try:
            turn.tool_call("t", {}, tool)
        except BaseException as raised:
            turn.text(type(raised).__name__)

    async with asked(agent) as world:
        assert (await answered(world)).content == type(error).__name__


async def test_what_a_function_says_in_a_flood_arrives_in_order_and_others_get_their_turn() -> None:
    def agent(turn: BlockingTurn) -> None:
        for number in range(10_000):
            turn.text(f"{number} ")

    async with running(as_agent(agent)) as world:
        await world.kernel.enqueue(draft("question"))
        rounds = 0
        while (await world.kernel.observe("s")).status != "idle":
            rounds += 1
            await asyncio.sleep(0)
        message = (await world.view()).read_view.messages[-1]
        assert message.content.split() == [str(number) for number in range(10_000)]
        assert rounds > 10_000 / 64 / 2


async def test_what_could_not_be_said_is_raised_by_the_next_call() -> None:
    def agent(turn: BlockingTurn) -> None:
        turn.usage("m", "no figures")  # type: ignore[arg-type]
        turn.sleep(0)
        turn.sleep(0)
        turn.text("never said")

    async with asked(agent) as world:
        message = await answered(world)
        assert (message.content, message.status) == ("", "failed")


async def test_a_function_that_says_what_is_no_text_hears_of_it_at_once() -> None:
    def agent(turn: BlockingTurn) -> None:
        with pytest.raises(TypeError, match="speaks text, not bytes"):
            turn.text(b"x")  # type: ignore[arg-type]
        turn.text("fine")

    async with asked(agent) as world:
        assert (await answered(world)).content == "fine"


async def test_a_cancelled_function_that_waits_for_the_turn_ends_at_once() -> None:
    raised: list[object] = []
    ended = threading.Event()

    def agent(turn: BlockingTurn) -> None:
        turn.text("so far")
        try:
            turn.sleep(1_000)
        except BaseException as error:
            raised.append(type(error))
            raised.append(type(_raised_by(lambda: turn.text("more"))))
            raised.append(type(_raised_by(turn.checkpoint)))
            raise
        finally:
            ended.set()

    async with asked(agent) as world:
        await when(world, lambda view: view.live is not None and view.live.text == "so far")
        await settled()
        await world.kernel.cancel_turn("s")
        message = await answered(world)
        assert (message.content, message.status) == ("so far", "cancelled")
        await until(ended.is_set)
        assert raised == [TurnOver] * 3


async def test_a_function_that_does_not_listen_is_left_behind_after_the_grace_and_can_say_nothing_more() -> None:
    block, began = threading.Event(), threading.Event()
    seen: list[object] = []

    def agent(turn: BlockingTurn) -> None:
        turn.text("said")
        turn.flush()
        began.set()
        block.wait(10)
        seen.append(turn.cancelled)
        seen.append(type(_raised_by(lambda: turn.text("too late"))))

    async with asked(agent) as world:
        await until(began.is_set)
        await world.kernel.cancel_turn("s")
        await world.clock.run_for(4.9)
        assert (await world.view()).status == "running"
        await world.clock.run_for(0.1)
        message = await answered(world)
        assert (message.content, message.status) == ("said", "cancelled")
        block.set()
        await until(lambda: len(seen) == 2)
        await settled()
        assert seen == [True, TurnOver]
        assert (await world.view()).read_view.messages[-1] == message


async def test_a_function_that_blocks_stalls_nobody_else() -> None:
    let_go = threading.Event()

    def agent(turn: BlockingTurn) -> None:
        if turn.input[0].content == "block":
            let_go.wait(10)
        turn.text("done")

    async with running(as_agent(agent), session_ids=("s", "t")) as world:
        await world.send("block", session_id="s")
        await world.send("go", session_id="t")
        assert (await answered(world, "t")).content == "done"
        assert (await world.kernel.observe("s")).status == "running"
        let_go.set()
        await answered(world)


async def test_more_functions_block_at_once_than_a_default_executor_has_threads() -> None:
    count = 40
    barrier = threading.Barrier(count)

    def agent(turn: BlockingTurn) -> None:
        barrier.wait(10)
        turn.text("all here")

    names = tuple(f"s{number}" for number in range(count))
    async with running(as_agent(agent), session_ids=names) as world:
        for name in names:
            await world.kernel.enqueue(draft("question", session_id=name))
        assert [(await answered(world, name)).content for name in names] == ["all here"] * count


@pytest.mark.parametrize("form", ["coroutine", "generator"])
async def test_a_function_that_returns_what_should_have_been_itself_fails_with_a_hint(form: str) -> None:
    async def coroutine(turn: object) -> None: ...

    def generator(turn: object) -> Generator[str]:
        yield "x"

    async with asked(lambda turn: coroutine(turn) if form == "coroutine" else generator(turn)) as world:
        message = await answered(world)
        assert message.status == "failed"
        assert f"returns a {form}; make it" in str(message.error)


async def test_an_agents_tools_stay_with_it_in_every_form() -> None:
    async def tools(session_id: str, policy: object) -> Sequence[dict[str, Any]]:
        return []

    def agent(turn: BlockingTurn) -> None: ...

    agent.tools = tools  # type: ignore[attr-defined]
    adapted: Agent = as_agent(agent)
    assert tools_of(adapted) is tools


def _raised_by(call: Callable[[], object]) -> BaseException | None:
    try:
        call()
    except BaseException as error:
        return error
    return None
