"""What comes into a turn from the queue while it runs: pictures to be stored, and input at checkpoints."""

from __future__ import annotations

from sightline.clock import Clock
from sightline.errors import LeaseLost
from sightline.ids import Ids
from sightline.observation.handle import RuntimeHandle
from sightline.queue.materializing import InputMessage, input_messages, pictures_of
from sightline.queue.model import CLAIM_TTL_MS, MAX_CLAIM, Boundary, Claim, NothingClaimed
from sightline.queue.port import QueueStore
from sightline.session.model import Attachment
from sightline.session.port import AttachmentStore
from sightline.session.rules import media_type_of
from sightline.turn.running import Running
from sightline.turn.tasks import finish
from sightline.turn.telling import claimed, input_accepted

__all__ = ["Intake"]


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
        late: list[Claim] = []

        def taken(claim: Claim) -> None:
            if running.over:
                late.append(claim)
                return
            running.claims.append(claim)
            if running.held is not None:
                running.held.claims.append(claim)
            handle.publish(self._clock.now_ms(), (claimed(claim),))

        try:
            claim = await finish(
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
                    then=taken,
                )
            )
        except LeaseLost:
            running.lose()
            raise
        finally:
            for claim in late:
                await finish(self._store.abandon(claim, charge=False, then=lambda _: None))
        if isinstance(claim, NothingClaimed) or late:
            return ()
        inputs = input_messages(claim.batches, await self.store_pictures(claim))
        running.inputs += inputs
        handle.publish(self._clock.now_ms(), (input_accepted(claim, inputs),))
        return inputs
