"""Who may take which work, and what belongs together.

Work of a session is taken in order of its sequence. A batch is *eligible* when its time has come and nobody holds it;
the first eligible batch, the *head*, decides alone. At an idle session any head starts a claim. At a checkpoint of a
running turn only a head that may be delivered at the earliest safe boundary does; another head blocks what is behind
it, so that nothing overtakes. A head that is held or delayed is not eligible and does not block.

An exclusive head is alone. A join head takes its eligible neighbours while slot, delivery policy and merge key agree,
and stops at the first that does not. Merge keys mean what they say: `never` joins nothing, `payload_default` joins its
like when the payloads are of one type, a group joins equal groups.

A batch that a turn took before (it carries a turn id, but its owner died or handed it back) is taken again with exactly
the members that turn had, never regrouped: the retried turn must be the same turn.

All functions are pure. A store may narrow what it offers here to the rows that could matter; it may not decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Struct

from sightline.queue.model import Batch, BatchState, Boundary, DeliveryPolicy, NothingClaimed, SlotPolicy

__all__ = ["Candidate", "select"]


class Candidate(Struct, frozen=True):
    """An open batch as a claim sees it. `held_until_ms` is the expiry of the claim on it, or none."""

    batch: Batch
    held_until_ms: int | None = None

    def is_held(self, now: int) -> bool:
        return self.batch.state is BatchState.CLAIMED and self.held_until_ms is not None and self.held_until_ms > now

    def is_eligible(self, now: int) -> bool:
        return self.batch.available_at_ms <= now and not self.is_held(now)


def select(
    candidates: Sequence[Candidate], boundary: Boundary, max_batches: int, now: int
) -> tuple[Batch, ...] | NothingClaimed:
    """The batches to claim, head first, or the reason why there are none. `candidates` are in sequence order."""
    if max_batches <= 0:
        return NothingClaimed("limit_zero")
    eligible = [candidate.batch for candidate in candidates if candidate.is_eligible(now)]
    if not eligible:
        return _nothing(candidates, now)
    head, *rest = eligible
    if (
        boundary is Boundary.ACTIVE_TURN_CHECKPOINT
        and head.delivery_policy is not DeliveryPolicy.EARLIEST_SAFE_BOUNDARY
    ):
        return NothingClaimed("delivery_boundary_blocked")
    if head.turn_id is not UNSET:
        return (head, *(batch for batch in rest if batch.turn_id == head.turn_id))
    if head.slot_policy is SlotPolicy.EXCLUSIVE:
        return (head,)
    group = [head]
    for batch in rest:
        if len(group) == max_batches or not _joins(head, batch):
            break
        group.append(batch)
    return tuple(group)


def _joins(head: Batch, batch: Batch) -> bool:
    if batch.slot_policy is not SlotPolicy.JOIN or batch.turn_id is not UNSET:
        return False
    if batch.delivery_policy is not head.delivery_policy or batch.merge_key != head.merge_key:
        return False
    if head.merge_key == "never":
        return False
    if head.merge_key == "payload_default":
        return _payload_types(head) == _payload_types(batch)
    return True


def _payload_types(batch: Batch) -> set[type]:
    return {type(item.payload) for item in batch.items}


def _nothing(candidates: Sequence[Candidate], now: int) -> NothingClaimed:
    if not candidates:
        return NothingClaimed("empty")
    if any(candidate.is_held(now) for candidate in candidates):
        return NothingClaimed("held")
    return NothingClaimed("not_yet_available", min(candidate.batch.available_at_ms for candidate in candidates))
