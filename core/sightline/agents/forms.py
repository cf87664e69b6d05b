"""The forms an agent may have, and how each becomes the one that the driver runs.

A coroutine function, or an object that is called like one, is an agent as it is. A generator of text, async or not, is
asked for one piece after the other, and each is said. What is not async runs in a thread of its own and gets a
`BlockingTurn`: however long it blocks, the event loop goes on. There are as many such threads as turns that run, and
those that did not return although their turn is over; nothing can end a thread but itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from typing import Any, cast

from sightline.turn.agent import Agent, AgentError, Turn
from sightline.turn.blocking import BlockingTurn

__all__ = ["as_agent", "runs_in_thread"]

_log = logging.getLogger("sightline.agents")

_BREATH = 32
"""A generator that never waits lets others run after so many pieces."""


def as_agent(found: object) -> Agent:
    """The agent that `found` is, in whichever form; it keeps its `tools`.

    Raises TypeError, in one line, for what is none.
    """
    if inspect.isclass(found):
        raise TypeError("it is a class; an agent is an instance of one, or a function")
    if not callable(found):
        raise TypeError(f"it is no function that takes a turn but of type {type(found).__name__}")
    _check_signature(found)
    # Of an object that is called, its method says what it is.
    forms = (found, getattr(found, "__call__", None))  # noqa: B004
    if any(inspect.iscoroutinefunction(form) for form in forms):
        return cast(Agent, found)
    agent: Any
    if any(inspect.isasyncgenfunction(form) for form in forms):
        agent = _speaking(cast(Callable[[Turn], AsyncGenerator[str]], found))
    elif any(inspect.isgeneratorfunction(form) for form in forms):
        agent = _in_thread(_saying(cast(Callable[[BlockingTurn], Generator[str]], found)))
    else:
        agent = _in_thread(found)
    tools = getattr(found, "tools", None)
    if tools is not None:
        agent.tools = tools
    return cast(Agent, agent)


def runs_in_thread(agent: Agent) -> bool:
    """Whether it is one that was not async."""
    return getattr(agent, "in_thread", False)


def _check_signature(found: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return  # of some that are made in C nobody knows; they will show when they are called
    try:
        signature.bind(None)
    except TypeError:
        raise TypeError(f"it takes {signature}, and an agent takes one argument, the turn") from None


def _speaking(pieces_of: Callable[[Turn], AsyncGenerator[str]]) -> Agent:
    async def agent(turn: Turn) -> None:
        count = 0
        async with aclosing(pieces_of(turn)) as pieces:
            async for piece in pieces:
                turn.text(piece)
                count += 1
                if count % _BREATH == 0:
                    await turn.sleep(0)

    return agent


def _saying(pieces_of: Callable[[BlockingTurn], Generator[str]]) -> Callable[[BlockingTurn], None]:
    def call(turn: BlockingTurn) -> None:
        with closing(pieces_of(turn)) as pieces:
            for piece in pieces:
                turn.text(piece)

    return call


def _in_thread(call: Callable[[BlockingTurn], object]) -> Agent:
    async def agent(turn: Turn) -> None:
        loop = asyncio.get_running_loop()
        blocking = BlockingTurn(turn)
        ended: asyncio.Future[BaseException | None] = loop.create_future()

        def run() -> None:
            error: BaseException | None = None
            try:
                _check_returned(call(blocking))
                blocking.flush()
            except BaseException as raised:
                error = raised
            try:
                loop.call_soon_threadsafe(_settle, ended, error)
            except RuntimeError:
                pass  # the loop is closed: the process ends, and nobody waits any more

        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(run,), name=f"agent {turn.turn_id}", daemon=True)
        try:
            thread.start()
        except RuntimeError as refusal:
            raise AgentError(f"there is no thread for the agent: {refusal}") from None
        try:
            error = await asyncio.shield(ended)
        except asyncio.CancelledError:
            blocking.end()
            await ended  # however long the turn has patience for it
            raise
        blocking.end()
        if error is not None:
            raise error

    agent.in_thread = True  # type: ignore[attr-defined]
    return agent


def _settle(ended: asyncio.Future[BaseException | None], error: BaseException | None) -> None:
    if not ended.done():
        ended.set_result(error)


def _check_returned(value: object) -> None:
    if inspect.iscoroutine(value):
        value.close()
        raise AgentError("the agent is a function that returns a coroutine; make it async")
    if inspect.isgenerator(value) or inspect.isasyncgen(value):
        raise AgentError("the agent is a function that returns a generator; make it one, with yield")
