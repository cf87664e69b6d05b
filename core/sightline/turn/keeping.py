"""Keeping what a running turn holds: its session lease, and its claims.

One task for all turns of a driver. It comes round every third of a lease and renews whatever has been held for as long,
each on its own: one renewal that hangs keeps no other waiting. So a lease outlives two rounds that fail, and a turn
that is over before its first third costs nothing. A refusal means that somebody else has taken over: the turn is told,
once, and must end without writing. Trouble with the store is not a refusal; the next round tries again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from sightline.clock import Clock
from sightline.errors import ClaimExpired, LeaseLost
from sightline.queue.model import Claim
from sightline.session.model import SessionLease

__all__ = ["Held", "LeaseKeeper", "RenewingStore"]

_log = logging.getLogger("sightline.turn.keeping")


class RenewingStore(Protocol):
    """The part of the stores that keeps things held."""

    async def renew_lease(self, lease: SessionLease, *, now: int, ttl_ms: int) -> SessionLease: ...

    async def renew(self, claim: Claim, *, now: int, ttl_ms: int) -> Claim: ...


class Held:
    """What one turn holds. `lost` is called when any of it turns out to be somebody else's."""

    __slots__ = ("claims", "claims_renewed", "lease_renewed", "lost")

    def __init__(self, claim: Claim, lost: Callable[[], None], now: float) -> None:
        self.claims = [claim]
        self.lost = lost
        self.lease_renewed = now
        self.claims_renewed = now

    @property
    def lease(self) -> SessionLease | None:
        return self.claims[0].lease


class LeaseKeeper:
    """Lives on one event loop, from `start` to `stop`. `hold` what begins, `drop` what has ended."""

    def __init__(self, store: RenewingStore, clock: Clock, *, lease_ms: int, claim_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._lease_ms = lease_ms
        self._claim_ms = claim_ms
        self._held: set[Held] = set()
        self._renewals: dict[Held, asyncio.Task[None]] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep(), name="lease keeper")

    def hold(self, claim: Claim, lost: Callable[[], None]) -> Held:
        held = Held(claim, lost, self._clock.monotonic())
        self._held.add(held)
        return held

    def drop(self, held: Held) -> None:
        """Renew it no more. Idempotent."""
        self._held.discard(held)

    async def stop(self) -> None:
        """Renew nothing more; returns when no task is left."""
        self._held.clear()
        tasks = [*self._renewals.values(), *([self._task] if self._task is not None else ())]
        self._task = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            await self._clock.sleep(self._lease_ms / 3000)
            # All at once: what waits at one moment shares a transaction.
            for held in self._held - self._renewals.keys():
                self._renewals[held] = asyncio.create_task(self._renew(held), name="lease renewal")

    async def _renew(self, held: Held) -> None:
        now = self._clock.monotonic()
        try:
            if held.lease is not None and now - held.lease_renewed >= self._lease_ms / 3000:
                await self._store.renew_lease(held.lease, now=self._clock.now_ms(), ttl_ms=self._lease_ms)
                held.lease_renewed = now
            if now - held.claims_renewed >= self._claim_ms / 3000:
                for claim in list(held.claims):
                    await self._store.renew(claim, now=self._clock.now_ms(), ttl_ms=self._claim_ms)
                held.claims_renewed = now
        except (LeaseLost, ClaimExpired) as error:
            if held in self._held:
                self._held.discard(held)
                _log.warning("a turn is stopped: %s", error)
                held.lost()
        except Exception as error:
            _log.warning("renewal failed, the next round tries again: %s", error)
        finally:
            self._renewals.pop(held, None)
