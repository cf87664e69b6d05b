"""The flush window: text that is said within a moment is shown as one event.

The first piece after a silence goes out at once. What follows is held back until the window has passed, and goes out
together; so it goes on until a window passes in silence. Nothing is reordered: pieces are joined that belong to the
same correlation and the same channel, and whatever else is shown comes after what was said before it.

Nobody waits for it: to say something costs an append, and one task for each window does the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from sightline.clock import Clock
from sightline.observation.activities import Activity, AssistantProseDelta, ReasoningDelta

__all__ = ["FlushWindow"]

_MOST_HELD = 65_536
"""Characters: one event gets no larger by being held back."""


class FlushWindow:
    """In front of what shows the activities of one turn. On the event loop's thread."""

    def __init__(self, show: Callable[[Activity, str], None], clock: Clock, seconds: float) -> None:
        self._show = show
        self._clock = clock
        self._seconds = seconds
        self._kind: type[AssistantProseDelta | ReasoningDelta] = AssistantProseDelta
        self._correlation = ""
        self._pieces: list[str] = []
        self._held = 0
        self._passing: asyncio.Task[None] | None = None

    def show(self, activity: Activity, correlation_id: str) -> None:
        """Show it, or keep it for a moment. Raises UnicodeEncodeError for text that no event can hold."""
        if not isinstance(activity, AssistantProseDelta | ReasoningDelta):
            self.flush()
            self._show(activity, correlation_id)
            return
        if self._passing is None:
            self._show(activity, correlation_id)
            self._passing = asyncio.create_task(self._pass(), name="flush window")
            return
        text, kind = activity.text, type(activity)
        if not text.isascii():
            text.encode()  # whoever says it is to hear of it, and not the window
        if kind is not self._kind or correlation_id != self._correlation or self._held + len(text) > _MOST_HELD:
            self.flush()
            self._kind, self._correlation = kind, correlation_id
        self._pieces.append(text)
        self._held += len(text)

    def flush(self) -> None:
        """Show what is held back."""
        if self._pieces:
            text = "".join(self._pieces)
            self._pieces.clear()
            self._held = 0
            self._show(self._kind(text=text), self._correlation)

    def close(self) -> None:
        """Forget what is held back; no task is left behind. Idempotent."""
        self._pieces.clear()
        self._held = 0
        if self._passing is not None:
            self._passing.cancel()
            self._passing = None

    async def _pass(self) -> None:
        await self._clock.sleep(self._seconds)
        while self._pieces:
            self.flush()
            await self._clock.sleep(self._seconds)
        self._passing = None
