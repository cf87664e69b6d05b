"""What the routes that bring work have in common: the idempotency key, and waiting for the end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine
from typing import Any, TypeVar

from sightline.kernel import Kernel
from sightline.queue.model import Batch
from sightline_gateway.http.operations import KEY_FORM, Call
from sightline_gateway.problems import ProblemError

__all__ = ["idempotency_key", "preferred_wait", "until_ended", "while_wanted"]

_T = TypeVar("_T")

_KEY = re.compile(KEY_FORM, re.ASCII)
_WAIT = re.compile(r"\s*wait\s*=\s*\"?([0-9]{1,9})\"?\s*(?:;.*)?", re.ASCII)
_MAX_WAIT = 60


def idempotency_key(call: Call) -> str | None:
    """The request's key, if it has one. Raises ProblemError for one that is none."""
    keys = call.headers.getlist("idempotency-key")
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise ProblemError(
            "invalid_field",
            "Idempotency-Key must be one header of 1 to 255 printable ASCII characters",
            field="Idempotency-Key",
        )
    return keys[0]


def preferred_wait(call: Call) -> int | None:
    """Seconds of `Prefer: wait=N`; a preference that cannot be read is not a refusal, it is just not applied."""
    for preference in ",".join(call.headers.getlist("prefer")).split(","):
        match = _WAIT.fullmatch(preference)
        if match:
            return min(int(match[1]), _MAX_WAIT)
    return None


async def until_ended(call: Call, batch: Batch, seconds: int) -> Batch:
    """The batch once it has ended; or as it is when time is up, the server has drained, or nobody waits any more."""
    kernel: Kernel = call.gateway.kernel
    ended = await while_wanted(call, kernel.wait_for_batch(call.session_id, batch.batch_id, seconds))
    return await kernel.get_batch(call.session_id, batch.batch_id) if ended is None else ended


async def while_wanted(call: Call, work: Coroutine[Any, Any, _T]) -> _T | None:
    """What the work comes to; none when the server has drained before, or nobody waits any more."""
    working = asyncio.create_task(work)
    others: list[asyncio.Task[Any]] = [
        asyncio.create_task(call.gateway.drained.wait()),
        asyncio.create_task(call.gone()),
    ]
    try:
        await asyncio.wait((working, *others), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, *others):
            task.cancel()
        await asyncio.gather(working, *others, return_exceptions=True)
