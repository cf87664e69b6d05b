"""What comes into a turn from the queue while it runs: pictures to be stored, and input at checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Callable

from msgspec import structs

from sightline.clock import Clock
from sightline.errors import LeaseLost, StoreUnavailable
from sightline.ids import Ids
from sightline.observation.handle import RuntimeHandle
from sightline.persevering import finish
from sightline.queue.materializing import Attachments, InputMessage, input_messages, pictures_of
from sightline.queue.model import CLAIM_TTL_MS, MAX_CLAIM, Boundary, Claim
from sightline.queue.port import QueueStore
from sightline.session.model import Attachment
from sightline.session.port import AttachmentStore
from sightline.session.rules import media_type_of
from sightline.turn.running import Running
from sightline.turn.telling import claimed, input_accepted

__all__ = ["Intake"]

_log = logging.getLogger("sightline.turn")


class Intake:
    """For all turns of one owner."""

    def __init__(
        self, store: QueueStore, attachments: AttachmentStore, clock: Clock, ids: Ids, *, owner_id: str
    ) -> None:
        self._store = store
        self._attachments = attachments
        self._clock = clock
        self._ids = ids
        self._owner_id = owner_id

    async def store_pictures(self, claim: Claim) -> dict[tuple[str, str], Attachment]:
        """Put the claim's pictures where messages can refer to them. Raises StoreUnavailable."""
        stored: dict[tuple[str, str], Attachment] = {}
        for picture in pictures_of(claim.batches):
            media_type = media_type_of(picture.data) or "application/octet-stream"
            stored[picture.key] = await self._attachments.put(claim.session_id, picture.data, media_type)
        return stored

    async def take_in(self, handle: RuntimeHandle, running: Running) -> tuple[InputMessage, ...]:
        """At a checkpoint: what waits to be delivered into this turn, which is settled with it from now on.

        Raises StoreUnavailable with nothing taken in. A turn whose lease is lost is stopped.
        """
        taken: list[Claim] = []
        inputs: tuple[InputMessage, ...] = ()

        def told(claim: Claim) -> None:
            nonlocal inputs
            taken.append(claim)
            if not running.over and not pictures_of(claim.batches):
                # In the same step: what the turn settles is what it runs on, whatever becomes of this call.
                inputs = self._adopt(handle, running, claim, {})

        try:
            await self._claim(handle, running, told)
            for claim in taken:
                if claim not in running.claims:
                    pictures = await self.store_pictures(claim)
                    if not running.over:
                        inputs = self._adopt(handle, running, claim, pictures)
        except StoreUnavailable:
            if not inputs:
                raise
        finally:
            for claim in taken:
                if claim not in running.claims:
                    await finish(self._leave(claim))
        return inputs

    async def _claim(self, handle: RuntimeHandle, running: Running, told: Callable[[Claim], None]) -> None:
        try:
            await finish(
                self._store.claim(
                    handle.session_id,
                    Boundary.ACTIVE_TURN_CHECKPOINT,
                    owner_id=self._owner_id,
                    turn_id=running.claim.turn_id,
                    lease_token=self._ids.token(),
                    now=self._clock.now_ms(),
                    ttl_ms=CLAIM_TTL_MS,
                    max_batches=MAX_CLAIM,
                    lease=running.claim.lease,
                    then=told,
                )
            )
        except LeaseLost:
            running.lose()
            raise

    def _adopt(
        self, handle: RuntimeHandle, running: Running, claim: Claim, pictures: Attachments
    ) -> tuple[InputMessage, ...]:
        inputs = input_messages(claim.batches, pictures)
        running.claims.append(claim)
        running.inputs += inputs
        if running.held is not None:
            running.held.claims.append(claim)
        handle.publish(self._clock.now_ms(), (claimed(claim), input_accepted(claim, inputs)))
        return inputs

    async def _leave(self, claim: Claim) -> None:
        """Give back what the turn does not take in after all. The lane stays: the turn has it."""
        try:
            await self._store.abandon(structs.replace(claim, lease=None), charge=False, then=lambda _: None)
        except StoreUnavailable as error:
            # The turn's commit gives it back, or whoever takes over has it.
            _log.warning("session %s: giving back %s: %s", claim.session_id, claim.claim_id, error)
