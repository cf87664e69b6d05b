"""Sessions that work for another one: what their turns use is counted there as well, once."""

from __future__ import annotations

from sightline.clock import Clock
from sightline.observation.changes import usage_change
from sightline.observation.handles import Handles
from sightline.session.model import Usage
from sightline.session.rules import from_child
from sightline.turn.commit import CommitStore

__all__ = ["count_child"]


async def count_child(
    store: CommitStore, handles: Handles, clock: Clock, session_id: str, *, child_id: str, turn_id: str, key: str
) -> None:
    """Count what a committed turn of the child used to the session, once under that key, and tell its observers.

    Raises SessionNotFound, SessionDeleted of the session, StoreUnavailable; it is safe to repeat.
    """
    used = from_child(await store.turn_usage(child_id, turn_id), child_id)
    if used == Usage():
        return
    async with handles.opened(session_id) as handle:

        def counted(now: bool) -> None:
            if now:
                handle.publish(clock.now_ms(), (usage_change(handle.view.read_view, used),))

        await handle.write(store.count_usage(session_id, key, used, then=counted))
