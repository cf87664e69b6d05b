"""A turn's journal as the attempt uses it that runs now."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from sightline.clock import Clock
from sightline.errors import LeaseLost
from sightline.persevering import finish, persistently
from sightline.queue.model import Claim
from sightline.session.model import SessionLease
from sightline.turn.journal import JournalStore

__all__ = ["Journal", "journal_of", "lease_of"]

_Recall = Callable[[], Awaitable[Mapping[str, str]]]
_Remember = Callable[[str, str, bool], Awaitable[str]]


class Journal:
    """A turn's journal as one attempt uses it. Read once, when something is first asked of it.

    `recall` none: no attempt was before this one, so there is nothing to read. `remember` none: nothing outlives the
    attempt.
    """

    __slots__ = ("_known", "_locks", "_recall", "_remember")

    def __init__(self, *, recall: _Recall | None = None, remember: _Remember | None = None) -> None:
        self._recall = recall
        self._remember = remember
        self._known: dict[str, str] | None = None if recall is not None else {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def recorded(self, key: str, default: Any = None) -> Any:
        """The value under the key, as JSON holds it."""
        known = await self._read()
        return msgspec.json.decode(known[key]) if key in known else default

    async def record(self, key: str, value: Any) -> None:
        """Write down a value, in place of what was there. Raises TypeError for what JSON cannot hold."""
        await self._write(key, value, replace=True)

    async def once(self, key: str, work: Callable[[], Any]) -> Any:
        """The value under the key; without one, what `work` comes to, written down first."""
        async with self._locks.setdefault(key, asyncio.Lock()):
            known = await self._read()
            if key not in known:
                result = work()
                if inspect.isawaitable(result):
                    result = await result
                await self._write(key, result, replace=False)
            return msgspec.json.decode(known[key])

    async def _read(self) -> dict[str, str]:
        if self._known is None:
            assert self._recall is not None, "what is not known can be recalled"
            found = dict(await self._recall())
            if self._known is None:  # another reader may have been as fast, and something written since
                self._known = found
        return self._known

    async def _write(self, key: str, value: Any, *, replace: bool) -> None:
        if not isinstance(key, str) or not key:
            raise TypeError(f"a key is a text that is not empty, not {key!r}")
        known, text = await self._read(), msgspec.json.encode(value).decode()
        known[key] = text if self._remember is None else await self._remember(key, text, replace)


def journal_of(store: JournalStore, clock: Clock, claim: Claim, lost: Callable[[], None]) -> Journal:
    """The journal of the turn that was claimed. `lost` is called when the session turns out to be somebody else's."""
    where = f"session {claim.session_id}: the journal of turn {claim.turn_id}"

    async def recall() -> dict[str, str]:
        return await persistently(clock, where, lambda: store.recall(claim.session_id, claim.turn_id))

    async def remember(key: str, value: str, replace: bool) -> str:
        lease = lease_of(claim)

        def write() -> Awaitable[str]:
            return store.remember(claim.session_id, claim.turn_id, key, value, lease=lease, replace=replace)

        try:
            # Also when the agent is stopped meanwhile: what was done is done, and the next attempt has to know.
            return await finish(persistently(clock, where, write))
        except LeaseLost:
            lost()
            raise

    # Each claim of a batch has a larger fence than the one before: by the first, no attempt can have written anything.
    return Journal(recall=None if claim.fencing_token == 1 else recall, remember=remember)


def lease_of(claim: Claim) -> SessionLease:
    """The lease that a turn runs under."""
    assert claim.lease is not None, "turns are claimed with their session's lease"
    return claim.lease
