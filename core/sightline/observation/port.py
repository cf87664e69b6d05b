"""The store's part in observation: one consistent read to begin from."""

from __future__ import annotations

from typing import Protocol

from sightline.observation.model import SessionState

__all__ = ["SessionLoader"]


class SessionLoader(Protocol):
    async def load_session(self, session_id: str, newest: int) -> SessionState:
        """The session with its `newest` messages. Raises SessionNotFound, SessionDeleted."""
        ...
