"""How watching begins: with a snapshot, behind a cursor, or with a gap."""

from __future__ import annotations

from msgspec import Struct

from sightline.observation.events import Event
from sightline.observation.model import Observation
from sightline.observation.replay import ReplaySubscription
from sightline.observation.runtime import SessionObservation

__all__ = ["Gap", "GapAnswer", "Opening", "Replayed"]


class Gap(Struct, frozen=True, kw_only=True):
    """Continuity from the requested cursor cannot be proved. The stream goes on from `latest_cursor`.

    `reason`: `trimmed`, `unavailable` or `lagged`.
    """

    session_id: str
    requested_cursor: str
    latest_cursor: str
    latest_revision: int
    reason: str


class Opening(Struct, frozen=True, kw_only=True):
    """How a subscription begins. `observation` is there for a fresh start and with a gap."""

    cursor: str
    subscription: ReplaySubscription
    observation: Observation | None = None
    gap: Gap | None = None


class Replayed(Struct, frozen=True):
    """Everything that happened behind a cursor, in order. Empty is a proof that nothing did."""

    events: tuple[Event, ...]


class GapAnswer(Struct, frozen=True):
    """The gap, and the session as of `gap.latest_cursor`: one moment, so that nothing is missed between the two."""

    gap: Gap
    view: Observation

    @property
    def observation(self) -> SessionObservation:
        return SessionObservation(self.view.read_view, self.view.cursor)
