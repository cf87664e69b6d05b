"""A view with more of the transcript than is kept in memory."""

from __future__ import annotations

from typing import Protocol

from sightline.observation.model import Observation, newest
from sightline.session.model import Message, MessagePage, ReadView
from sightline.session.rules import in_frame

__all__ = ["MessageReader", "widened"]


class MessageReader(Protocol):
    """The part of a store that pages through a transcript."""

    async def page_messages(self, session_id: str, *, before: str | None, limit: int) -> MessagePage: ...


async def widened(view: Observation, messages: int | None, reader: MessageReader) -> Observation:
    """The view with its newest `messages`: cut, or extended by older ones from the store. History does not change, so
    the cursor holds.
    """
    kept = view.read_view.messages
    if messages is None or len(kept) >= messages or not view.read_view.truncated:
        return view if messages is None else newest(view, messages)
    older: tuple[Message, ...] = ()
    if kept:
        wanted = messages - len(kept)
        page = await reader.page_messages(view.session_id, before=kept[0].message_id, limit=wanted + 1)
        found = in_frame(page.messages, view.read_view.agent_frame_id)
        older, truncated = found[-wanted:], len(found) > wanted
        wide = ReadView(
            messages=older + kept,
            agent_frame_id=view.read_view.agent_frame_id,
            turn_index=view.read_view.turn_index,
            truncated=truncated,
        )
        fields = {name: getattr(view, name) for name in Observation.__struct_fields__ if name != "read_view"}
        return Observation(**fields, read_view=wide)
    return view
