"""The tools an agent has at the moment: its own, and those its MCP servers say they have."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from sightline.agents.standard.tools import Tool
from sightline.clock import Clock

__all__ = ["Source", "Surface"]

_log = logging.getLogger("sightline.agents.standard")

_AGAIN_AFTER = 30.0
"""Seconds during which a source that failed is not asked again by turns, which would wait for it each time."""


class Source(Protocol):
    """Somewhere tools come from."""

    async def tools(self, clock: Clock) -> tuple[Tool, ...]:
        """What there is now. Any exception: it cannot be said."""
        ...

    async def close(self) -> None: ...


class Surface:
    """`generation` grows whenever the tools are not what they were; by it the catalogue is kept."""

    def __init__(self, own: Sequence[Tool], sources: Sequence[Source]) -> None:
        self._own = tuple(own)
        self._sources = tuple(sources)
        self._listed: dict[Source, tuple[Tool, ...]] = {}
        self._failed: dict[Source, float] = {}
        self._tools: dict[str, Tool] = {tool.name: tool for tool in self._own}
        self._catalog: tuple[int, list[dict[str, Any]]] | None = None
        self.generation = 1

    async def tools(self, clock: Clock) -> Mapping[str, Tool]:
        """The tools by name, for a turn: what was listed before, and what can be listed of the rest. A source that
        cannot say is gone without.
        """
        for source in self._sources:
            if source in self._listed or clock.monotonic() - self._failed.get(source, -_AGAIN_AFTER) < _AGAIN_AFTER:
                continue
            try:
                await self._list(source, clock)
            except Exception as error:
                _log.warning("a turn goes without some of its tools: %s", error)
                self._failed[source] = clock.monotonic()
        return self._tools

    async def refreshed(self, clock: Clock) -> list[dict[str, Any]]:
        """The catalogue, all sources asked anew. Raises what a source raises."""
        for source in self._sources:
            await self._list(source, clock)
        if self._catalog is None or self._catalog[0] != self.generation:
            self._catalog = (self.generation, [msgspec.to_builtins(tool.spec) for tool in self._tools.values()])
        return self._catalog[1]

    async def close(self) -> None:
        """Let go of the sources; they are asked anew if there is a next time."""
        self._listed.clear()
        self._failed.clear()
        for source in self._sources:
            await source.close()

    async def _list(self, source: Source, clock: Clock) -> None:
        self._listed[source] = await source.tools(clock)
        self._failed.pop(source, None)
        tools = {tool.name: tool for tool in self._own}
        for listed in self._listed.values():
            for tool in listed:
                if tools.setdefault(tool.name, tool) is not tool:
                    _log.warning("there is more than one tool %s; the first one counts", tool.name)
        if [tool.spec for tool in tools.values()] != [tool.spec for tool in self._tools.values()]:
            self.generation += 1
        self._tools = tools
