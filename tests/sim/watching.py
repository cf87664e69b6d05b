"""An observer with a good memory: it folds what it is told, and can be compared with what it was told about."""

from __future__ import annotations

import msgspec

from sightline.observation.events import from_wire
from sightline.observation.fold import Fold
from sightline.observation.handle import Opening, RuntimeHandle
from sightline.observation.model import Observation
from tests.sim.ledger import Law, Violation

__all__ = ["Watcher"]

_DECODER = msgspec.json.Decoder()


class Watcher:
    """One subscription. After a gap it begins again from the snapshot, as a client does."""

    def __init__(self) -> None:
        self.seen = 0
        self.gaps = 0
        self._handle: RuntimeHandle | None = None
        self._opening: Opening | None = None
        self._fold: Fold | None = None
        self._position = 0

    def begin(self, handle: RuntimeHandle, opening: Opening) -> None:
        assert opening.observation is not None, "a fresh opening brings the view"
        self._handle, self._opening = handle, opening
        self._fold = Fold(opening.observation)
        self._position = 0
        self.look()

    def look(self) -> None:
        """Take what is there. Called when something has come."""
        if self._opening is None or self._handle is None or self._fold is None:
            return  # woken before `subscribe` has returned; `begin` looks
        while True:
            taken = self._opening.subscription.take(1 << 20)
            if isinstance(taken, str):
                self.gaps += 1
                self._opening.subscription.close()
                self.begin(self._handle, self._handle.reopen_after_lag(self._fold.cursor, self.look, taken))
                return
            if not taken:
                return
            for entry in taken:
                if entry.position <= self._position:
                    raise Violation(Law.FOLD, f"event {entry.position} comes after event {self._position}")
                self._position = entry.position
                self._fold.apply(from_wire(_DECODER.decode(entry.payload)))
                self.seen += 1

    def compare(self) -> Observation | None:
        """What it made of the events must be the view itself. Returns that view."""
        if self._handle is None or self._fold is None:
            return None
        self.look()
        folded, view = self._fold.observation(), self._handle.view
        if folded != view:
            raise Violation(Law.FOLD, f"folded: {folded}, shown: {view}")
        return view

    def close(self) -> None:
        if self._opening is not None:
            self._opening.subscription.close()
