"""Who may take which work, and what belongs together.

Work of a session is taken in order of its sequence. A batch is *eligible* when its time has come and nobody holds it;
the first eligible batch, the *head*, decides alone. At an idle session any head starts a claim. At a checkpoint of a
running turn only a head that may be delivered at the earliest safe boundary does; another head blocks what is behind
it, so that nothing overtakes. A head that is held or delayed is not eligible and does not block.

An exclusive head is alone. A join head takes its eligible neighbours while slot, delivery policy and merge key agree,
and stops at the first that does not. Merge keys mean what they say: `never` joins nothing, `payload_default` joins its
like when the payloads are of one type, a group joins equal groups.

A batch that a turn took before (it carries a turn id, but its owner died or handed it back) is taken again with exactly
the members that turn had, never regrouped: the retried turn must be the same turn. It is taken at an idle session only:
a running turn has no use for the rest of another one.

A claim ends in three ways: its owner settles it, its time runs out, or the session lease under which it was taken is
superseded. The last is why a candidate knows the generation it was claimed under, and `select` the one that now rules.

Whenever nothing is taken, the answer says why: opposite facts must not look the same, or a caller spins on the one and
stalls on the other.

All functions are pure. A store may narrow what it offers here to the rows that could matter; it may not decide.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Struct

from sightline.queue.model import (
    Batch,
    BatchState,
    Boundary,
    CommandPayload,
    DeliveryPolicy,
    NothingClaimed,
    SlotPolicy,
)

__all__ = ["Candidate", "select"]


class Candidate(Struct, frozen=True):
    """An open batch as a claim sees it: until when it is held, and under which generation of the session lease.

    `generation` none: claimed without a lease, so only time ends it.
    """

    batch: Batch
    held_until_ms: int | None = None
    generation: int | None = None

    def is_held(self, now: int, generation: int | None = None) -> bool:
        """`generation`: the one that rules the session now, none to leave it out."""
        if self.batch.state is not BatchState.CLAIMED or self.held_until_ms is None or self.held_until_ms <= now:
            return False
        return generation is None or self.generation is None or self.generation == generation

    def is_eligible(self, now: int, generation: int | None = None) -> bool:
        # Once a turn has taken it, its time has come for everybody, whatever the clocks say: a retry without it would
        # be another turn under the same id.
        is_due = self.batch.turn_id is not UNSET or self.batch.available_at_ms <= now
        return is_due and not self.is_held(now, generation)


def select(
    candidates: Sequence[Candidate],
    boundary: Boundary,
    max_batches: int,
    now: int,
    *,
    generation: int | None = None,
    only: Sequence[str] | None = None,
) -> tuple[Batch, ...] | NothingClaimed:
    """The batches to claim, head first, or the reason why there are none. `candidates` are in sequence order.

    `only` asks for exactly these batches: they are taken if they are the next group, in this order, and nothing is
    taken otherwise. `max_batches` has no say then.
    """
    limit = max_batches if only is None else len(only)
    if limit <= 0:
        return NothingClaimed("limit_zero")
    eligible = [candidate.batch for candidate in candidates if candidate.is_eligible(now, generation)]
    if not eligible:
        return _nothing(candidates, now, generation)
    head = eligible[0]
    if boundary is Boundary.ACTIVE_TURN_CHECKPOINT and (
        head.delivery_policy is not DeliveryPolicy.EARLIEST_SAFE_BOUNDARY or head.turn_id is not UNSET
    ):
        return NothingClaimed("command_at_head" if _is_command(head) else "delivery_boundary_blocked")
    group = _group(eligible, limit)
    if only is not None and [batch.batch_id for batch in group] != list(only):
        return NothingClaimed("selection_mismatch")
    return group


def _group(eligible: Sequence[Batch], limit: int) -> tuple[Batch, ...]:
    """The head and what belongs to it."""
    head, *rest = eligible
    if head.turn_id is not UNSET:
        return (head, *(batch for batch in rest if batch.turn_id == head.turn_id))
    if head.slot_policy is SlotPolicy.EXCLUSIVE:
        return (head,)
    group = [head]
    for batch in rest:
        if len(group) == limit or not _joins(head, batch):
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


def _is_command(batch: Batch) -> bool:
    return any(isinstance(item.payload, CommandPayload) for item in batch.items)


def _nothing(candidates: Sequence[Candidate], now: int, generation: int | None) -> NothingClaimed:
    if not candidates:
        return NothingClaimed("empty")
    if any(candidate.is_held(now, generation) for candidate in candidates):
        return NothingClaimed("held")
    return NothingClaimed("not_yet_available", min(candidate.batch.available_at_ms for candidate in candidates))
