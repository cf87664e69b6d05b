"""Attachments in memory."""

from __future__ import annotations

from sightline.errors import AttachmentNotFound
from sightline.session.model import Attachment
from sightline.session.rules import attachment_of

__all__ = ["MemoryAttachments"]


class MemoryAttachments:
    """See `sightline.session.port.AttachmentStore`."""

    def __init__(self) -> None:
        self._sessions: dict[str, dict[str, tuple[Attachment, bytes]]] = {}

    async def put(self, session_id: str, data: bytes, media_type: str) -> Attachment:
        attachment = attachment_of(data, media_type)
        self._sessions.setdefault(session_id, {})[attachment.attachment_id] = attachment, data
        return attachment

    async def get(self, session_id: str, attachment_id: str) -> tuple[Attachment, bytes]:
        found = self._sessions.get(session_id, {}).get(attachment_id)
        if found is None:
            raise AttachmentNotFound(session_id, attachment_id)
        return found

    async def delete_session(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)
