"""Functions that block, in threads of their own."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["in_thread"]


async def in_thread(name: str, work: Callable[[], Any]) -> Any:
    """What `work` comes to, done in a thread that keeps nobody else from one and does not hold up the process's end.

    When cancelled, returns at once. The thread goes on: nothing can end it but itself.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()

    def settle(output: Any, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is None:
            ended.set_result(output)
        else:
            ended.set_exception(error)

    def run() -> None:
        output: Any = None
        failure: BaseException | None = None
        try:
            output = work()
        except StopIteration as error:
            failure = RuntimeError(f"{name} raised StopIteration: {error}")  # no future takes one
        except BaseException as error:
            failure = error
        try:
            loop.call_soon_threadsafe(settle, output, failure)
        except RuntimeError:
            pass  # the loop is closed: the process ends, and nobody waits any more

    threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True).start()
    return await ended
