"""Work that outlives the task that began it: seen through although the task is cancelled, tried again although the
store is away for a moment, or left behind and looked after.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from sightline.clock import Clock
from sightline.errors import StoreUnavailable

__all__ = ["STORE_RETRIES", "finish", "persistently", "retrieve"]

_log = logging.getLogger("sightline.store")

STORE_RETRIES = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0)
"""Pauses between tries, in seconds."""
_T = TypeVar("_T")


async def finish(work: Coroutine[Any, Any, _T]) -> _T:
    """See the work through even when this task is cancelled meanwhile; the cancellation is raised afterwards."""
    task = asyncio.create_task(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise
            cancelled = True
        except Exception:
            break
    if cancelled:
        retrieve(task)
        raise asyncio.CancelledError
    return task.result()


def retrieve(task: asyncio.Task[Any]) -> None:
    """Take note of a task's exception that nobody else will look at."""
    if not task.cancelled():
        task.exception()


async def persistently(clock: Clock, what: str, work: Callable[[], Awaitable[_T]]) -> _T:
    """Do what is safe to repeat, again and again for a few seconds while the store is unavailable."""
    for delay in STORE_RETRIES:
        try:
            return await work()
        except StoreUnavailable as error:
            _log.warning("%s: %s", what, error)
        await clock.sleep(delay)
    return await work()
