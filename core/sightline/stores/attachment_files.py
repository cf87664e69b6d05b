"""Attachments as files: one folder a session, one file a picture, named by what they hold.

A file is written beside its place, made durable, and moved there; so a name that exists is a whole picture. The folder
of a session is named by a hash of its id, because ids may hold what file names may not.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from sightline.errors import AttachmentNotFound, StoreUnavailable
from sightline.session.model import Attachment
from sightline.session.rules import attachment_of, media_type_of

__all__ = ["FileAttachments"]

_T = TypeVar("_T")
_ID = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_ANY = "application/octet-stream"


class FileAttachments:
    """See `sightline.session.port.AttachmentStore`. The folder is made when the first picture comes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, session_id: str, data: bytes, media_type: str) -> Attachment:
        attachment = attachment_of(data, media_type)
        path = self._path(session_id, attachment.attachment_id)

        def write() -> None:
            if path.exists():
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            number, name = tempfile.mkstemp(dir=path.parent)
            try:
                with os.fdopen(number, "wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(name, path)
            except BaseException:
                os.unlink(name)
                raise

        await self._do(write)
        return attachment

    async def get(self, session_id: str, attachment_id: str) -> tuple[Attachment, bytes]:
        if not _ID.fullmatch(attachment_id):
            raise AttachmentNotFound(session_id, attachment_id)
        try:
            data = await self._do(self._path(session_id, attachment_id).read_bytes)
        except FileNotFoundError:
            raise AttachmentNotFound(session_id, attachment_id) from None
        return attachment_of(data, media_type_of(data) or _ANY), data

    async def delete_session(self, session_id: str) -> None:
        folder = self._session_folder(session_id)

        def erase() -> None:
            if folder.exists():
                shutil.rmtree(folder)

        await self._do(erase)

    def _session_folder(self, session_id: str) -> Path:
        return self._folder / hashlib.sha256(session_id.encode()).hexdigest()

    def _path(self, session_id: str, attachment_id: str) -> Path:
        return self._session_folder(session_id) / attachment_id.removeprefix("sha256:")

    async def _do(self, work: Callable[[], _T]) -> _T:
        """Run it in a thread: a disk may be slow. Raises StoreUnavailable for trouble with it."""
        try:
            return await asyncio.get_running_loop().run_in_executor(None, work)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise StoreUnavailable(error.strerror or str(error)) from error
