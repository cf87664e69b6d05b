"""Whatever an agent raises, in whichever form it comes: its turn has failed, and the next one runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator

import pytest

from sightline.agents.forms import as_agent
from sightline.session.model import Failure
from sightline.turn.agent import AgentError, Turn
from sightline.turn.blocking import BlockingTurn
from sightline.turn.rules import error_text, failure_text
from tests.core.worlds import draft, running

pytestmark = pytest.mark.anyio


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")


class Outlandish(BaseException):
    """Neither an Exception nor one of those that the language knows."""


def grouped(*errors: BaseException) -> BaseException:
    return BaseExceptionGroup("several", errors)


ERRORS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "exception": (lambda: ValueError("bad"), "ValueError: bad"),
    "own word": (lambda: AgentError("sorry"), "sorry"),
    "base exception": (lambda: Outlandish("odd"), "Outlandish: odd"),
    "exit": (lambda: SystemExit(3), "the agent called exit(3)"),
    "interrupt": (KeyboardInterrupt, "the agent raised KeyboardInterrupt: "),
    "generator exit": (lambda: GeneratorExit("x"), "GeneratorExit: x"),
    "group": (
        lambda: grouped(ValueError("a"), grouped(KeyError("b"))),
        (
            "ExceptionGroup: several (2 sub-exceptions): ValueError: a; "
            "ExceptionGroup: several (1 sub-exception): KeyError: 'b'"
        ),
    ),
    "group with an exit": (
        lambda: grouped(SystemExit(1)),
        "BaseExceptionGroup: several (1 sub-exception): SystemExit: 1",
    ),
    "unprintable": (Unprintable, "Unprintable: (its text cannot be had: ValueError)"),
    "no unicode": (lambda: OSError("\udcff"), "OSError: ?"),
    "endless": (lambda: ValueError("x" * 1_000_000), "ValueError: " + "x" * 10_000 + "…"),
    "cancels itself": (asyncio.CancelledError, "the agent cancelled itself"),
    "broken off": (EOFError, "EOFError: "),
}


def coroutine(error: Callable[[], BaseException]) -> object:
    async def agent(turn: Turn) -> None:
        turn.text("so far")
        raise error()

    return agent


def pieces(error: Callable[[], BaseException]) -> object:
    async def agent(turn: Turn) -> AsyncGenerator[str]:
        yield "so far"
        raise error()

    return agent


def function(error: Callable[[], BaseException]) -> object:
    def agent(turn: BlockingTurn) -> None:
        turn.text("so far")
        raise error()

    return agent


def words(error: Callable[[], BaseException]) -> object:
    def agent(turn: BlockingTurn) -> Generator[str]:
        yield "so far"
        raise error()

    return agent


@pytest.mark.parametrize("form", [coroutine, pieces, function, words], ids=lambda form: form.__name__)
@pytest.mark.parametrize("name", ERRORS)
async def test_what_an_agent_raises_fails_its_turn_and_nothing_else(
    name: str, form: Callable[[Callable[[], BaseException]], object]
) -> None:
    error, sentence = ERRORS[name]
    agent = as_agent(form(error))
    calls = 0

    async def first_fails(turn: Turn) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            turn.text("fine")
        else:
            await agent(turn)

    async with running(first_fails) as world:
        for text in ("one", "two"):
            written = await world.kernel.enqueue(draft(text))
            await world.kernel.wait_for_batch("s", written.batch.batch_id, timeout=3_600)
        _, failed, _, well = (await world.view()).read_view.messages
        assert (failed.status, failed.content) == ("failed", "so far")
        assert failed.error == Failure("agent_error", sentence)
        assert well.content == "fine"


@pytest.mark.parametrize("error", [SystemExit(2), KeyboardInterrupt()])
async def test_a_tool_among_several_that_ends_the_process_fails_as_any_other(error: BaseException) -> None:
    async def agent(turn: Turn) -> None:
        async def exits() -> None:
            raise error

        async def works() -> int:
            return 1

        done = await asyncio.gather(
            turn.tool_call("exits", {}, exits), turn.tool_call("works", {}, works), return_exceptions=True
        )
        turn.text(f"{type(done[0]).__name__} {done[1]}")

    async with running(agent) as world:
        await world.send("question")
        message = (await world.view()).read_view.messages[-1]
        assert message.content == "AgentError 1"
        assert [part.get("state") for part in message.parts or []] == ["failed", "completed", None]


def test_a_text_without_end_is_cut() -> None:
    assert len(error_text(ValueError("x" * 100_000))) < 10_100


def test_a_group_names_its_first_members_and_is_cut() -> None:
    many = BaseExceptionGroup("many", [ValueError(str(number)) for number in range(100)])
    assert failure_text(many).endswith(": ValueError: 0; ValueError: 1; ValueError: 2; ValueError: 3; ValueError: 4")
    deep: BaseException = ValueError("x" * 9_000)
    for _ in range(50):
        deep = BaseExceptionGroup("deep", [deep, ValueError("y" * 9_000)])
    assert len(failure_text(deep)) <= 20_000
