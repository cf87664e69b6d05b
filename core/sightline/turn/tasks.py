"""Work that outlives the task that began it: seen through although the task is cancelled, or left behind and looked
after.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["finish", "retrieve"]

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
