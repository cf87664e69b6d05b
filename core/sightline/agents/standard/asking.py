"""A request to the model until it is answered: shown as it comes, and made again when the provider stumbles.

What a failed attempt showed is taken back before the next one begins, so that nobody reads half an answer twice. All
waiting is on the kernel's clock.
"""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import aclosing

from msgspec import UNSET, Struct, UnsetType

from sightline.agents.standard.model import (
    ContextOverflow,
    Finish,
    ModelClient,
    ModelError,
    ModelRequest,
    ModelTrouble,
    Reasoning,
    Text,
    Used,
)
from sightline.clock import within
from sightline.turn.agent import Turn
from sightline.turn.effects import ModelResult

__all__ = ["Patience", "ask"]

_BREATH = 32
"""A stream that never waits lets others run after so many events."""


class Patience(Struct, frozen=True, kw_only=True):
    """How much trouble a provider may make. Times in seconds.

    `attempts`: how often a request is made, the first time included. Between them is a pause that doubles from
    `first_pause` up to `longest_pause`; a provider may ask for a longer one, and gets it up to `longest_asked`.
    `silence`: after how long without a word a request has failed.
    """

    attempts: int = 4
    first_pause: float = 1.0
    longest_pause: float = 30.0
    longest_asked: float = 60.0
    silence: float = 60.0


async def ask(
    turn: Turn,
    client: ModelClient,
    request: ModelRequest,
    patience: Patience,
    effect_id: int,
    *,
    aside: str = "",
) -> ModelResult:
    """Make the request and show what comes, until it ends or there is no more patience. Cancelling ends it at once.
    What is asked aside shows nothing but its cost and its trouble; `aside` is the name under which that is accounted.

    Trouble is an outcome. What is raised is a mistake of the client, or the turn's own end.
    """
    if not aside:
        turn.model_request()
    attempt = 1
    while True:
        try:
            return await _attempt(turn, client, request, patience.silence, effect_id, aside)
        except ContextOverflow as error:
            return ModelResult(effect_id=effect_id, outcome="context_overflow", message=str(error))
        except ModelTrouble as error:
            if attempt == patience.attempts:
                sentence = f"the model did not answer in {attempt} attempts; the last: {error}"
                return ModelResult(effect_id=effect_id, outcome="provider_error", message=sentence)
            attempt += 1
            pause = _pause(patience, attempt, error.retry_after, f"{turn.turn_id}:{effect_id}:{attempt}")
            if not aside:
                turn.retract()
            turn.retrying(str(error), wait_seconds=pause, attempt=attempt, max_attempts=patience.attempts)
            await turn.sleep(pause)
        except ModelError as error:
            return ModelResult(effect_id=effect_id, outcome="provider_error", message=str(error))


async def _attempt(
    turn: Turn, client: ModelClient, request: ModelRequest, silence: float, effect_id: int, aside: str
) -> ModelResult:
    heard = turn.clock.monotonic()

    async def read() -> ModelResult:
        nonlocal heard
        count, input_tokens = 0, _UNKNOWN
        async with aclosing(client.stream(request)) as events:
            async for event in events:
                heard = turn.clock.monotonic()
                match event:
                    case Text(text=text) if not aside:
                        turn.text(text)
                    case Reasoning(text=text) if not aside:
                        turn.reasoning(text)
                    case Used(figures=figures):
                        input_tokens = figures.input_tokens
                        turn.usage(request.model, figures, source=aside or "agent")
                    case Finish(parts=parts, reason=reason):
                        return ModelResult(effect_id=effect_id, outcome=reason, parts=parts, input_tokens=input_tokens)
                    case _:
                        pass
                count += 1
                if count % _BREATH == 0:
                    await turn.sleep(0)
        raise ModelTrouble("the model's answer stopped before its end")

    reading = asyncio.create_task(read(), name=f"model request of {turn.turn_id}")
    try:
        while not await within(turn.clock, heard + silence - turn.clock.monotonic(), reading):
            if turn.clock.monotonic() >= heard + silence:
                raise ModelTrouble(f"the model said nothing for {silence:g} s")
        return reading.result()
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


_UNKNOWN: int | UnsetType = UNSET


def _pause(patience: Patience, attempt: int, asked: float | None, seed: str) -> float:
    """How long to wait before this attempt: between half and all of what is due, so that many do not come at once."""
    if asked is not None:
        return min(asked, patience.longest_asked)
    due: float = min(patience.first_pause * 2 ** (attempt - 2), patience.longest_pause)
    share = hashlib.sha256(seed.encode()).digest()[0] / 255
    return due * (0.5 + share / 2)
