"""SQLite agrees with memory, the specification: the same steps have the same answers, refusals and state after each.

Every run of the tests draws a few dozen histories; with `--hypothesis-profile=long` it is two thousand.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import structs

from sightline.observation.activities import Outcome
from sightline.observation.model import SessionState
from sightline.queue.model import (
    BatchState,
    Boundary,
    Claim,
    DeliveryPolicy,
    Draft,
    Group,
    Payload,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.session.model import LeaseRequest, Message, NewSession, SessionLease, Usage, UsageFigures
from sightline.turn.commit import TurnCommit
from tests.conformance.drawing import (
    SESSIONS,
    any_session,
    choices,
    drifts,
    effects,
    keys,
    owners,
    payloads,
    sessions,
    terms,
    texts,
    ttls,
)
from tests.conformance.side_by_side import SideBySide

LONG = settings.get_profile("long")
RUNS = LONG.max_examples if settings.default == LONG else 60

URGENT = DeliveryPolicy.EARLIEST_SAFE_BOUNDARY
SAME = TurnInputPayload(TurnInput((TextItem("the same"),)))
NEXT: dict[str, Any] = {"boundary": Boundary.IDLE, "max_batches": 64, "batch_ids": None}


class Agreement(RuleBasedStateMachine):
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

    # Sessions and their leases

    @initialize(metadata=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-9, 9) | st.text()))
    def begin(self, metadata: dict[str, Any]) -> None:
        for session_id in SESSIONS:
            self.stores.ask("create_session", NewSession(session_id=session_id, metadata=metadata), self.now)

    @precondition(lambda self: self.names > 20)
    @rule(session_id=any_session, sure=st.sampled_from(("no", "no", "delete", "create")))
    def end(self, session_id: str, sure: str) -> None:
        if sure == "delete":
            self.stores.ask("delete_session", session_id, self.now)
        elif sure == "create":
            self.stores.ask("create_session", NewSession(session_id=session_id), self.now)

    @rule(milliseconds=st.sampled_from((1, 5, 100)))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(session_id=any_session, owner=owners, ttl_ms=ttls, drift=drifts)
    def acquire(self, session_id: str, owner: str, ttl_ms: int, drift: int) -> None:
        lease = self.stores.ask(
            "acquire_lease",
            session_id,
            owner_id=owner,
            lease_token=self.name("lease"),
            now=self.now + drift,
            ttl_ms=ttl_ms,
        )
        if isinstance(lease, SessionLease):
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(choice=choices, ttl_ms=ttls, drift=drifts, wish=st.sampled_from(("renew", "renew unheard", "release")))
    def keep_or_release(self, choice: int, ttl_ms: int, drift: int, wish: str) -> None:
        lease = self.recent(self.leases, choice)
        if wish == "release":
            self.stores.ask("release_lease", lease)
            return
        longer = self.stores.ask("renew_lease", lease, now=self.now + drift, ttl_ms=ttl_ms)
        if longer is not None and wish == "renew":
            self.leases.append(longer)

    # Work comes

    @rule(session_id=sessions, contents=st.lists(texts, min_size=1, max_size=3), joins=st.booleans())
    def enqueue(self, session_id: str, contents: list[Payload], joins: bool) -> None:
        slot = SlotPolicy.JOIN if joins else SlotPolicy.EXCLUSIVE
        for content in contents:
            draft = Draft(session_id=session_id, payloads=(content,), merge_key=Group("g"), slot_policy=slot)
            self.stores.ask("enqueue", draft, batch_id=self.name("b"), now=self.now, max_open=50)

    @rule(session_id=sessions, key=st.sampled_from(("k1", "k2")), age=st.sampled_from((0, 1, 5)))
    def enqueue_by_key(self, session_id: str, key: str, age: int) -> None:
        """The same with each key every time, so that replays are not the exception."""
        draft = Draft(session_id=session_id, payloads=(SAME,), source_key=key, delivery_policy=URGENT)
        self.stores.ask("enqueue", draft, batch_id=self.name("b"), now=self.now - age, max_open=50)

    @rule(
        session_id=any_session,
        content=payloads,
        terms=terms,
        delay=st.sampled_from((None, None, 0, 5, -5)),
        max_open=st.sampled_from((2, 50, 50)),
        drift=drifts,
    )
    def enqueue_anything(
        self,
        session_id: str,
        content: tuple[Payload, ...],
        terms: dict[str, Any],
        delay: int | None,
        max_open: int,
        drift: int,
    ) -> None:
        available = 0 if delay is None else self.now + delay
        draft = Draft(session_id=session_id, payloads=content, available_at_ms=available, **terms)
        self.stores.ask("enqueue", draft, batch_id=self.name("b"), now=self.now + drift, max_open=max_open)

    # Work is taken

    @precondition(lambda self: self.busy)
    @rule(choice=choices, owner=owners, leased=st.booleans(), ttl_ms=ttls, drift=drifts)
    def take(self, choice: int, owner: str, leased: bool, ttl_ms: int, drift: int) -> None:
        lease = LeaseRequest(owner_id=owner, lease_token=self.name("lease"), ttl_ms=ttl_ms) if leased else None
        self.claim(self.busy[choice % len(self.busy)], **NEXT, owner=owner, lease=lease, ttl_ms=ttl_ms, drift=drift)

    @precondition(lambda self: self.busy)
    @rule(choice=choices, owner=owners, count=st.integers(1, 3), correct=st.sampled_from((True, True, False)))
    def take_exactly(self, choice: int, owner: str, count: int, correct: bool) -> None:
        session_id = self.busy[choice % len(self.busy)]
        states = (BatchState.PENDING,) if correct else tuple(BatchState)
        names = self.open_names(session_id, *states)
        self.claim(session_id, **{**NEXT, "batch_ids": names[:count]}, owner=owner, lease=None, ttl_ms=5, drift=0)

    @precondition(lambda self: self.held)
    @rule(choice=choices, ttl_ms=ttls)
    def take_in_at_a_checkpoint(self, choice: int, ttl_ms: int) -> None:
        turn = self.recent(self.held, choice)
        boundary = {**NEXT, "boundary": Boundary.ACTIVE_TURN_CHECKPOINT}
        self.claim(turn.session_id, **boundary, owner=turn.owner_id, lease=turn.lease, ttl_ms=ttl_ms, drift=0)

    @rule(
        session_id=any_session,
        bounds=st.fixed_dictionaries(
            {"boundary": st.sampled_from(Boundary), "max_batches": st.sampled_from((0, 1, 2, 64))}
        ),
        owner=owners,
        ttl_ms=ttls,
        selection=st.none() | st.tuples(st.integers(0, 2), st.integers(0, 3)),
        under=st.sampled_from((None, "request", "lease")),
        choice=choices,
        drift=drifts,
    )
    def take_anything(
        self,
        session_id: str,
        bounds: dict[str, Any],
        owner: str,
        ttl_ms: int,
        selection: tuple[int, int] | None,
        under: str | None,
        choice: int,
        drift: int,
    ) -> None:
        lease: LeaseRequest | SessionLease | None = None
        if under == "request":
            lease = LeaseRequest(owner_id=owner, lease_token=self.name("lease"), ttl_ms=ttl_ms)
        elif under == "lease" and self.leases:
            lease = self.recent(self.leases, choice)
        names = self.open_names(session_id, *BatchState) or ["nobody"]
        self.claim(
            session_id,
            **bounds,
            batch_ids=None if selection is None else names[selection[0] : sum(selection)],
            owner=owner,
            lease=lease,
            ttl_ms=ttl_ms,
            drift=drift,
        )

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

    @precondition(lambda self: self.claims)
    @rule(choice=choices, ttl_ms=ttls, drift=drifts, heard=st.booleans())
    def renew(self, choice: int, ttl_ms: int, drift: int, heard: bool) -> None:
        longer = self.stores.ask("renew", self.recent(self.claims, choice), now=self.now + drift, ttl_ms=ttl_ms)
        if longer is not None and heard:
            self.claims.append(longer)

    # Work ends

    @precondition(lambda self: self.claims)
    @rule(choice=choices, charge=st.booleans())
    def abandon(self, choice: int, charge: bool) -> None:
        claim = self.recent(self.claims, choice)
        self.stores.ask("abandon", claim, charge=charge)
        self.held = [held for held in self.held if held.lease_token != claim.lease_token]

    @precondition(lambda self: self.held)
    @rule(choice=choices, count=st.integers(0, 3), with_others=st.booleans(), effect=effects)
    def commit(self, choice: int, count: int, with_others: bool, effect: dict[str, Any]) -> None:
        claim = self.recent(self.held, choice)
        claims = [claim]
        if with_others:
            claims += [held for held in self.held if held.session_id == claim.session_id and held is not claim]
        completions = tuple(held.completion() for held in claims)
        self.end_turn(claim, count, completions=completions, lease=claim.lease, **effect)

    @rule(session_id=sessions, effect=effects, forget=st.booleans())
    def do_all_that_is_open(self, session_id: str, effect: dict[str, Any], forget: bool) -> None:
        for _ in self.open_names(session_id, BatchState.PENDING):
            self.claim(session_id, **NEXT, owner="me", lease=None, ttl_ms=5, drift=0)
            if not self.held or self.held[-1].session_id != session_id:
                break
            claim = self.held[-1]
            self.end_turn(claim, 1, completions=(claim.completion(),), **effect)
            self.states = self.stores.compare(SESSIONS, self.now)
        if forget:
            self.stores.ask("purge_ended", self.now + 1, 10)

    @precondition(lambda self: self.claims)
    @rule(
        choice=choices,
        count=st.integers(0, 1),
        behind=st.sampled_from((0, 0, 0, 1)),
        proof=st.sampled_from(("whole", "part", "twice", "two", "none")),
        under=st.sampled_from(("its own", "any", "none")),
        effect=effects,
        drift=drifts,
    )
    def commit_anything(
        self, choice: int, count: int, behind: int, proof: str, under: str, effect: dict[str, Any], drift: int
    ) -> None:
        claim = self.recent(self.claims, choice)
        whole = claim.completion()
        completions = {
            "whole": (whole,),
            "part": (structs.replace(whole, batch_ids=whole.batch_ids[1:]),),
            "twice": (whole, whole),
            "two": (whole, self.claims[-1].completion()),
            "none": (),
        }[proof]
        lease = claim.lease if under == "its own" else None
        if under == "any" and self.leases:
            lease = self.leases[-1]
        revision = self.revision(claim.session_id) - behind
        self.end_turn(
            claim,
            count,
            completions=completions,
            lease=lease,
            expected_revision=revision,
            now=self.now + drift,
            **effect,
        )

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

    @precondition(lambda self: self.commits)
    @rule(choice=choices, change=st.sampled_from((None, None, "messages", "advances", "reset", "lease")))
    def commit_again(self, choice: int, change: str | None) -> None:
        commit = self.commits[choice % len(self.commits)]
        match change:
            case "messages":
                message = Message(message_id=self.name("m"), role="user", content="other", at_ms=self.now)
                commit = structs.replace(commit, messages=(message,))
            case "advances":
                commit = structs.replace(commit, advances=not commit.advances)
            case "reset":
                commit = structs.replace(commit, reset=not commit.reset)
            case "lease":
                commit = structs.replace(commit, lease=self.leases[-1] if self.leases else None)
        self.stores.ask("commit", commit)

    # Changes of mind

    @precondition(lambda self: self.busy)
    @rule(session_id=sessions, choice=choices, onward=st.booleans())
    def cancel(self, session_id: str, choice: int, onward: bool) -> None:
        names = [*self.open_names(session_id, *BatchState), f"b{choice}"]
        batch_id = names[choice % len(names)]
        self.stores.ask("cancel_from" if onward else "cancel_batch", session_id, batch_id, now=self.now)

    @precondition(lambda self: self.busy)
    @rule(session_id=sessions, key=keys, by_turn=st.booleans(), choice=choices)
    def request_cancel(self, session_id: str, key: str | None, by_turn: bool, choice: int) -> None:
        turns = [*(claim.turn_id for claim in self.claims), "nobody"]
        self.stores.ask(
            "request_cancel",
            session_id,
            turn_id=turns[choice % len(turns)] if by_turn else None,
            source_key=key,
            reason=self.name("reason "),
            now=self.now,
        )

    @precondition(lambda self: self.names > 10)
    @rule(age=st.sampled_from((-1, 0, 5)), limit=st.sampled_from((1, 10, 10)), keys_too=st.booleans())
    def purge(self, age: int, limit: int, keys_too: bool) -> None:
        self.stores.ask("purge_ended", self.now - age, limit)
        if keys_too:
            self.stores.ask("purge_keys", self.now - age, limit)

    @invariant()
    def all_that_can_be_read_is_equal(self) -> None:
        self.states = self.stores.compare(SESSIONS, self.now)


Agreement.TestCase.settings = settings(max_examples=RUNS, stateful_step_count=40, deadline=None)
TestSqliteAgreesWithMemory = pytest.mark.timeout(2 * RUNS)(Agreement.TestCase)
