"""What a history of two stores remembers, and the moves that most of its steps are made of."""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import RuleBasedStateMachine
from msgspec import structs

from sightline.observation.activities import Outcome
from sightline.observation.model import SessionState
from sightline.queue.model import BatchState, Boundary, Claim
from sightline.session.model import Message, SessionLease, Usage, UsageFigures
from sightline.turn.commit import TurnCommit
from tests.conformance.drawing import SESSIONS
from tests.conformance.side_by_side import SideBySide

__all__ = ["NEXT", "History"]

NEXT: dict[str, Any] = {"boundary": Boundary.IDLE, "max_batches": 64, "batch_ids": None}


class History(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stores = SideBySide()
        self.now = 10_000
        self.names = 0
        self.states: dict[str, SessionState] = {}
        self.leases: list[SessionLease] = []
        self.claims: list[Claim] = []
        self.held: list[Claim] = []
        """Those that nobody has given back or committed."""
        self.commits: list[TurnCommit] = []
        self.requests: list[tuple[str, str]] = []
        """By session and id, also those that were not opened because there was one already."""

    def teardown(self) -> None:
        self.stores.close()

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    @property
    def busy(self) -> list[str]:
        """Sessions with open work."""
        return [session_id for session_id, state in self.states.items() if state.open_batches]

    def revision(self, session_id: str) -> int:
        return self.states[session_id].record.revision if session_id in self.states else 0

    def open_names(self, session_id: str, *states: BatchState) -> list[str]:
        batches = self.states[session_id].open_batches if session_id in self.states else ()
        return [batch.batch_id for batch in batches if batch.state in states]

    def recent(self, found: list[Any], choice: int) -> Any:
        """Mostly one of the last few, at times any."""
        reach = 3 if choice % 4 else len(found)
        return found[-1 - choice % min(reach, len(found))]

    def look(self) -> None:
        """Compare all that can be read."""
        self.states = self.stores.compare(SESSIONS, self.leases[-3:], self.now)

    def claim(self, session_id: str, *, boundary: Boundary, owner: str, drift: int, **terms: Any) -> None:
        claim = self.stores.ask(
            "claim",
            session_id,
            boundary,
            owner_id=owner,
            turn_id=self.name("t"),
            lease_token=self.name("token"),
            now=self.now + drift,
            **terms,
        )
        if isinstance(claim, Claim):
            self.claims.append(claim)
            self.held.append(claim)
            if claim.lease is not None:
                self.leases.append(claim.lease)

    def end_turn(self, claim: Claim, count: int, **changes: Any) -> None:
        plain = TurnCommit(
            session_id=claim.session_id,
            turn_id=claim.turn_id,
            expected_revision=self.revision(claim.session_id),
            outcome=Outcome(status="completed"),
            messages=tuple(
                Message(message_id=self.name("m"), role="assistant", content=f"{number}", at_ms=self.now)
                for number in range(count)
            ),
            usage=Usage(UsageFigures(requests=count), {"m": UsageFigures(requests=count)}),
            completions=(),
            title=self.name("title "),
            now=self.now,
        )
        commit = structs.replace(plain, **changes)
        if self.stores.ask("commit", commit) is not None:
            self.commits.append(commit)
            ended = {completion.claim_id for completion in commit.completions}
            self.held = [held for held in self.held if held.claim_id not in ended]
