"""Where a turn of the standard agent is, written into the turn's journal for later attempts.

A conversation only grows, so what was said is written once: in chunks, each when it has become large enough. The rest
is in the head, which is written anew at every step and says which chunks come before it. A chunk is written before the
head that names it; one that no head names is nothing.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from msgspec import Struct

from sightline.session.model import Usage
from sightline.turn.agent import Turn
from sightline.turn.conversation import ConversationMessage
from sightline.turn.machine import Step
from sightline.turn.saving import NotRestorable, restore, save
from sightline.turn.states import State

__all__ = ["Notebook", "Place", "Summary"]

_log = logging.getLogger("sightline.agents.standard")

_KEY = "machine"
_CHUNK = 32_768
"""Bytes of JSON: what is longer does not go into a head."""


class Summary(Struct, frozen=True):
    """What stands for the first `upto` messages where the model is told of them."""

    upto: int = 0
    text: str = ""


class Place(Struct, frozen=True, kw_only=True):
    """What an attempt leaves for the next besides the machine. `began` is how many messages were there at the start,
    `earlier` how many of them were those of earlier turns; `heard` are digests of the inputs that are part of the
    conversation; `prompt_tokens` is the size of the newest request.
    """

    began: int
    earlier: int
    heard: tuple[str, ...]
    used: Usage
    prompt_tokens: int
    summary: Summary


class _Head(Struct, frozen=True, kw_only=True):
    """`chunks`: how many messages are in front of each."""

    machine: dict[str, Any]
    place: Place
    chunks: tuple[int, ...]


class Notebook:
    """Of one attempt. Read before anything is written."""

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._chunks: list[int] = []
        self._kept = 0
        """How many messages the chunks have."""

    async def write(self, state: State, place: Place) -> None:
        """Durable when this returns. Raises StoreUnavailable, LeaseLost."""
        rest = state.course.messages[self._kept :]
        if len(msgspec.json.encode(rest)) > _CHUNK:
            await self._turn.record(_chunk(self._kept), rest)
            self._chunks.append(self._kept)
            self._kept += len(rest)
        head = _Head(machine=save(state, kept=self._kept), place=place, chunks=tuple(self._chunks))
        await self._turn.record(_KEY, head)

    async def read(self) -> tuple[Step, Place] | None:
        """Where an earlier attempt was, with what was out; none when there is nothing that can be gone on from. Raises
        StoreUnavailable.
        """
        found = await self._turn.recorded(_KEY)
        if found is None:
            return None
        try:
            head = msgspec.convert(found, _Head)
            kept: tuple[ConversationMessage, ...] = ()
            for start in head.chunks:
                chunk = await self._turn.recorded(_chunk(start))
                kept += msgspec.convert(chunk, tuple[ConversationMessage, ...])
            resumed = restore(head.machine, kept)
        except (NotRestorable, msgspec.ValidationError) as error:
            _log.warning("turn %s begins anew: %s", self._turn.turn_id, error)
            return None
        self._chunks, self._kept = list(head.chunks), len(kept)
        return resumed, head.place


def _chunk(start: int) -> str:
    return f"{_KEY}.{start}"
