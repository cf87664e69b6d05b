"""What is done about processes from outside of them: looked at, reported on, told to end, handed over.

Where a session asks, it may only speak of what it sees: what is granted to it, or to its current agent frame. What it
changes is told to observers in the background; `shown_through` waits for that.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sightline.clock import Clock, within
from sightline.errors import HandleNotVisible, StoreUnavailable
from sightline.observation.handle import RuntimeHandle
from sightline.observation.handles import Handles
from sightline.observation.processes import ProcessNews
from sightline.process.appending import cancel_request, checked_output, ending, signal
from sightline.process.awaiting import ProcessWaits
from sightline.process.model import (
    Appended,
    AwaitOutput,
    CancelledOutput,
    FailureOutput,
    GrantsEnded,
    HandleGrant,
    HandleSummary,
    NewEvent,
    ProcessEvent,
    ProcessPage,
    ProcessRecord,
    ProcessScope,
    ProcessStatus,
    SuccessOutput,
)
from sightline.process.port import ProcessStore
from sightline.process.rules import check_visible, scopes_of, visible

__all__ = ["ProcessDesk"]

_log = logging.getLogger("sightline.turn.processes")

_T = TypeVar("_T")


class ProcessDesk:
    """On one event loop. `logged` is called with everything that was written to a log here, once it is in the store.

    What names a process raises ProcessNotFound for one that is not there, what names a session SessionNotFound and
    SessionDeleted, and all of it StoreUnavailable. What writes is safe to repeat, and may be cancelled: then it may be
    done all the same.
    """

    def __init__(self, store: ProcessStore, handles: Handles, clock: Clock, logged: Callable[[Appended], None]) -> None:
        self._store = store
        self._handles = handles
        self._clock = clock
        self._tell = logged
        self._waits = ProcessWaits(store, clock)
        self._news = ProcessNews(store, handles, clock)

    # Looking

    async def get(self, process_id: str) -> ProcessRecord:
        """The process as it stands."""
        return await self._store.get_process(process_id)

    async def list(
        self, *, limit: int = 50, after: int | None = None, status: ProcessStatus | None = None, kind: str | None = None
    ) -> ProcessPage:
        """All processes, the newest registration first; `after` is what a former page ended with (its `next`)."""
        return await self._store.list_processes(limit=limit, after=after, status=status, kind=kind)

    async def events_after(
        self, process_id: str, after: int = 0, *, limit: int = 500, wait: float = 0.0
    ) -> tuple[ProcessEvent, ...]:
        """The process's log behind that sequence, in order, at most `limit`. While there is none and the process runs,
        it is waited for, at most `wait` seconds.
        """
        if wait:
            await self._patiently(wait, self._waits.news_of(process_id, after))
        return await self._store.list_process_events(process_id, after=after, limit=limit)

    async def value(self, process_id: str, attachment_id: str) -> bytes:
        """The JSON of a value that is too large to stand in the log or the record of the process, which name it."""
        return await self._store.process_value(process_id, attachment_id)

    async def end_of(self, process_id: str, timeout: float) -> AwaitOutput | None:
        """What a process came to, or none after `timeout` seconds."""
        return await self._patiently(timeout, self._waits.end_of(process_id))

    async def whenever(self, process_id: str) -> AwaitOutput:
        """What a process came to, once it has ended, however long that takes. Cancellable at any time."""
        return await self._waits.end_of(process_id)

    async def _patiently(self, seconds: float, work: Awaitable[_T]) -> _T | None:
        waiting = asyncio.ensure_future(work)
        try:
            return await waiting if await within(self._clock, seconds, waiting) else None
        finally:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    # Reporting and asking

    async def append(self, process_id: str, event: NewEvent, *, session_id: str | None = None) -> Appended:
        """Log an event that does not come from the worker; with a session, only of a process that it sees.

        Raises what `ProcessStore.append_event` raises.
        """
        if session_id is None:
            return await self._append(process_id, event, None)
        async with self._handles.opened(session_id) as handle:
            return await self._append(process_id, event, _scopes_of(handle))

    async def complete(self, process_id: str, value: Any = None) -> Appended:
        """Report that somebody elsewhere has done the work of an externally owned process, and what it came to.

        Told twice it is the same end. Raises ProcessTerminal when the process had another end before, ProcessNotYours
        when it is run here, InvalidInput for what cannot be stored, InvalidPayload for what its own type of this event
        does not allow.
        """
        return await self.append(process_id, ending(process_id, SuccessOutput(value=checked_output(value))))

    async def fail(self, process_id: str, code: str, message: str) -> Appended:
        """Report that an externally owned process has failed. Raises like `complete`."""
        return await self.append(process_id, ending(process_id, FailureOutput(code=code, message=message)))

    async def cancelled(self, process_id: str, message: str) -> Appended:
        """Report that an externally owned process was given up, as somebody asked. Raises like `complete`."""
        return await self.append(process_id, ending(process_id, CancelledOutput(message=message)))

    async def cancel(self, process_id: str, reason: str = "cancelled", *, session_id: str | None = None) -> Appended:
        """Ask for the end of a process; nothing when it has ended. Durable when this returns. Raises like `append`."""
        return await self.append(process_id, cancel_request(process_id, reason), session_id=session_id)

    async def signal(self, process_id: str, signal_id: str, payload: Any, *, session_id: str | None = None) -> Appended:
        """Tell a process something, once under that id. Raises like `append`."""
        return await self.append(process_id, signal(process_id, signal_id, payload), session_id=session_id)

    async def _append(self, process_id: str, event: NewEvent, seen_from: Sequence[ProcessScope] | None) -> Appended:
        with self._in_doubt((process_id,)):
            return await self._store.append_event(
                process_id, event, now=self._clock.now_ms(), then=self._tell, seen_from=seen_from
            )

    @contextlib.contextmanager
    def _in_doubt(self, process_ids: Iterable[str], *session_ids: str) -> Iterator[None]:
        """Around a write about these: what its answer was lost of may have been done without a word."""
        try:
            yield
        except StoreUnavailable:
            for process_id in process_ids:
                self._news.doubtful(process_id, *session_ids)
            raise

    # Sessions and what they see

    async def handles_of(self, session_id: str, *, live: bool = True) -> tuple[HandleSummary, ...]:
        """The processes the session sees, by process id; with `live`, those that have not ended."""
        async with self._handles.opened(session_id) as handle:
            return visible(await self._granted(_scopes_of(handle), live=live))

    async def validate_visible(self, session_id: str, process_ids: Iterable[str]) -> None:
        """Raises HandleNotVisible for the first that the session does not see. One that has ended is seen."""
        async with self._handles.opened(session_id) as handle:
            check_visible(session_id, process_ids, await self._granted(_scopes_of(handle), live=False))

    async def _granted(self, scopes: Iterable[ProcessScope], *, live: bool) -> Sequence[HandleGrant]:
        ask = self._store.list_live_handle_grants if live else self._store.list_handle_grants
        return [grant for scope in scopes for grant in await ask(scope)]

    async def grant(self, process_id: str, scope: ProcessScope, descriptor: dict[str, Any]) -> HandleGrant:
        """Let a session see a process, or a frame of it; granted again, it is called anew.

        Raises InvalidInput for a descriptor that cannot be stored.
        """
        with self._in_doubt((process_id,), scope.session_id):
            return await self._store.grant_process(
                process_id, scope, descriptor, then=lambda _: self._news.granted(process_id, scope.session_id)
            )

    async def revoke(self, process_id: str, scope: ProcessScope) -> bool:
        """Whether there was a grant, which there is not any more. The process goes on."""

        def revoked(was_granted: bool) -> None:
            if was_granted:
                self._news.revoked(process_id, scope.session_id)

        with self._in_doubt((process_id,), scope.session_id):
            return await self._store.revoke_process(process_id, scope, then=revoked)

    async def transfer(
        self, source: ProcessScope, target: ProcessScope, process_ids: Sequence[str]
    ) -> tuple[HandleGrant, ...]:
        """Hand processes over from one session, or frame, to another, all or none, each by the name it had.

        Raises HandleNotGranted for the first that the source has not to give.
        """

        def moved(grants: tuple[HandleGrant, ...]) -> None:
            for grant in grants:
                self._news.revoked(grant.process_id, source.session_id)
                self._news.granted(grant.process_id, target.session_id)

        with self._in_doubt(process_ids, source.session_id, target.session_id):
            return await self._store.transfer_grants(source, target, process_ids, then=moved)

    async def cancel_all(self, session_id: str, reason: str = "cancelled") -> tuple[ProcessRecord, ...]:
        """Ask for the end of all that the session sees and that has not ended: those, by process id.

        The first that cannot be asked ends it, with what was asked before; one that is taken from the session or ends
        meanwhile is passed by.
        """
        async with self._handles.opened(session_id) as handle:
            scopes = _scopes_of(handle)
            asked = []
            for shown in visible(await self._granted(scopes, live=True)):
                with contextlib.suppress(HandleNotVisible):
                    request = cancel_request(shown.process_id, reason)
                    record = (await self._append(shown.process_id, request, scopes)).record
                    if not record.is_terminal:
                        asked.append(record)
            return tuple(asked)

    async def cancel_unreferenced(
        self, session_id: str, keep: Sequence[str], reason: str = "not needed any more"
    ) -> GrantsEnded:
        """Take from the session, and its current frame, all processes but these, and ask for the end of those that
        nobody else sees.
        """
        async with self._handles.opened(session_id) as handle:
            revoked: list[str] = []
            cancelled: list[Appended] = []
            shown = [process["process_id"] for process in handle.view.processes]
            for scope in _scopes_of(handle):
                with self._in_doubt(shown, session_id):
                    ended = await self._store.cancel_unreferenced(
                        scope,
                        keep,
                        reason=reason,
                        now=self._clock.now_ms(),
                        then=lambda ended: self._taken(session_id, ended),
                    )
                revoked += ended.revoked
                cancelled += ended.cancelled
            asked = {result.record.process_id for result in cancelled}
            return GrantsEnded(
                revoked=tuple(sorted(revoked)),
                cancelled=tuple(cancelled),
                preserved=tuple(sorted({*revoked} - asked)),
            )

    def _taken(self, session_id: str, ended: GrantsEnded) -> None:
        for process_id in dict.fromkeys(ended.revoked):
            self._news.revoked(process_id, session_id)
        for result in ended.cancelled:
            self._tell(result)

    def frame_switched(self, handle: RuntimeHandle) -> None:
        """A session is in another frame now, and does not see what only the former one was granted. Never raises."""
        for shown in handle.view.processes:
            self._news.doubtful(shown["process_id"])

    def session_deleted(self, session_id: str, ended: GrantsEnded) -> None:
        """A session was deleted, and its processes were taken from it in the store. Neither waits nor raises."""
        for result in ended.cancelled:
            self._tell(result)
        if ended.revoked:
            _log.info(
                "session %s was deleted: it saw %d processes, of which %d are to end and %d are left as they are",
                session_id,
                len(set(ended.revoked)),
                len(ended.cancelled),
                len(ended.preserved),
            )

    async def shown_through(self, session_id: str, process_ids: Iterable[str]) -> str:
        """A cursor of the session: a stream that has passed it has shown all that was done to these processes so far.

        Raises StoreUnavailable when that cannot be told for now, though it was done.
        """
        async with self._handles.opened(session_id) as handle:
            await self._news.told(process_ids)
            return handle.cursor


def _scopes_of(handle: RuntimeHandle) -> tuple[ProcessScope, ...]:
    return scopes_of(handle.session_id, handle.view.read_view.agent_frame_id)
