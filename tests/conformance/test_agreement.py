"""SQLite agrees with memory, the specification: the same steps have the same answers, refusals and state after each.

Every run of the tests draws a few dozen histories; with `--hypothesis-profile=long` it is two thousand.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from msgspec import UNSET, structs

from sightline.queue.model import (
    BatchState,
    Boundary,
    DeliveryPolicy,
    Draft,
    Group,
    Payload,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.session.model import (
    LeaseRequest,
    Message,
    NewSession,
    Request,
    SessionLease,
    Usage,
    UsageFigures,
)
from tests.conformance.drawing import (
    SESSIONS,
    ages,
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
from tests.conformance.histories import NEXT, History

LONG = settings.get_profile("long")
RUNS = LONG.max_examples if settings.default == LONG else 60

URGENT = DeliveryPolicy.EARLIEST_SAFE_BOUNDARY
SAME = TurnInputPayload(TurnInput((TextItem("the same"),)))


class Agreement(History):
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

    @rule(
        session_id=sessions,
        contents=st.lists(texts, min_size=1, max_size=3),
        joins=st.booleans(),
        apart=st.sampled_from((0, 0, 5)),
    )
    def enqueue(self, session_id: str, contents: list[Payload], joins: bool, apart: int) -> None:
        slot = SlotPolicy.JOIN if joins else SlotPolicy.EXCLUSIVE
        for number, content in enumerate(contents):
            draft = Draft(
                session_id=session_id,
                payloads=(content,),
                slot_policy=slot,
                merge_key=Group("g"),
                available_at_ms=self.now + number * apart,
            )
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

    @precondition(lambda self: self.held)
    @rule(choice=choices, ttl_ms=ttls, drift=drifts)
    def begin_again(self, choice: int, ttl_ms: int, drift: int) -> None:
        """As an owner that lost the answer, and may have a clock that went back."""
        lost = self.recent(self.held, choice)
        lease = LeaseRequest(owner_id=lost.owner_id, lease_token=self.name("lease"), ttl_ms=1_000)
        self.claim(lost.session_id, **NEXT, owner=lost.owner_id, lease=lease, ttl_ms=ttl_ms, drift=drift)

    @rule(session_id=sessions, ttl_ms=ttls)
    def begin_again_before_the_second(self, session_id: str, ttl_ms: int) -> None:
        """After a claim of two, by a clock that went back to when the second was still to come."""
        self.enqueue(session_id, [SAME, SAME], True, 5)
        self.now += 5
        for drift in (0, -5):
            lease = LeaseRequest(owner_id="me", lease_token=self.name("lease"), ttl_ms=1_000)
            self.claim(session_id, **NEXT, owner="me", lease=lease, ttl_ms=ttl_ms, drift=drift)

    @precondition(lambda self: self.busy)
    @rule(choice=choices, owner=owners, count=st.integers(1, 3), correct=st.sampled_from((True, True, False)))
    def take_exactly(self, choice: int, owner: str, count: int, correct: bool) -> None:
        session_id = self.busy[choice % len(self.busy)]
        states = (BatchState.PENDING,) if correct else tuple(BatchState)
        names = self.open_names(session_id, *states)
        self.claim(
            session_id,
            **{**NEXT, "batch_ids": names[:count], "max_batches": choice % 3},
            owner=owner,
            lease=None,
            ttl_ms=5,
            drift=0,
        )

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

    @precondition(lambda self: len(self.claims) > 1)
    @rule(choice=choices)
    def name_more_than_is_held(self, choice: int) -> None:
        claim, other = self.recent(self.claims, choice), self.claims[-1]
        names = {batch.batch_id for batch in claim.batches}
        if claim.session_id == other.session_id and not any(batch.batch_id in names for batch in other.batches):
            self.claims.append(structs.replace(claim, batches=(*other.batches, *claim.batches)))

    @precondition(lambda self: self.claims)
    @rule(choice=choices, ttl_ms=ttls, drift=drifts, heard=st.booleans())
    def renew(self, choice: int, ttl_ms: int, drift: int, heard: bool) -> None:
        longer = self.stores.ask("renew", self.recent(self.claims, choice), now=self.now + drift, ttl_ms=ttl_ms)
        if longer is not None and heard:
            self.claims.append(longer)

    # The turn's journal

    @precondition(lambda self: self.claims and self.leases)
    @rule(
        choice=choices,
        key=st.sampled_from(("a", "b")),
        replace=st.booleans(),
        under=st.sampled_from(("its own", "its own", "any")),
    )
    def write_down(self, choice: int, key: str, replace: bool, under: str) -> None:
        claim = self.recent(self.claims, choice)
        lease = self.recent(self.leases, choice) if under == "any" or claim.lease is None else claim.lease
        value = f'"{self.name("note")}"'
        self.stores.ask("remember", claim.session_id, claim.turn_id, key, value, lease=lease, replace=replace)
        self.read_up(choice)

    @precondition(lambda self: self.claims)
    @rule(choice=choices)
    def read_up(self, choice: int) -> None:
        claim = self.recent(self.claims, choice)
        self.stores.ask("recall", claim.session_id, claim.turn_id)

    # What turns ask

    @precondition(lambda self: self.claims and self.leases)
    @rule(
        choice=choices,
        key=st.sampled_from(("a", "b")),
        options=st.sampled_from((UNSET, [], ["a", {"b": 1}])),
        under=st.sampled_from(("its own", "its own", "any")),
    )
    def open_request(self, choice: int, key: str, options: Any, under: str) -> None:
        claim = self.recent(self.claims, choice)
        lease = self.recent(self.leases, choice) if under == "any" or claim.lease is None else claim.lease
        request = Request(
            request_id=self.name("r"),
            turn_id=claim.turn_id,
            kind="question",
            prompt=f"question {self.names}",
            options=options,
            at_ms=self.now,
        )
        self.requests.append((claim.session_id, request.request_id))
        self.stores.ask("open_request", claim.session_id, request, key, lease=lease)

    @precondition(lambda self: self.requests)
    @rule(choice=choices, elsewhere=st.sampled_from((None, None, None, "a", "nobody")))
    def answer_request(self, choice: int, elsewhere: str | None) -> None:
        session_id, request_id = self.recent(self.requests, choice)
        self.stores.ask("answer_request", elsewhere or session_id, request_id, f'"{self.name("answer")}"')
        self.stores.ask("answers_to", [name for _, name in self.requests[-5:]])

    @precondition(lambda self: self.requests)
    @rule(age=ages, limit=st.sampled_from((1, 10)))
    def forget_requests(self, age: int, limit: int) -> None:
        self.stores.ask("purge_requests", self.now - age, limit)
        self.stores.ask("answers_to", [name for _, name in self.requests])

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
            self.look()
        if forget:
            self.stores.ask("purge_ended", self.now + 1, 10)

    @precondition(lambda self: self.claims)
    @rule(
        choice=choices,
        count=st.integers(0, 1),
        behind=st.sampled_from((0, 0, 0, 1)),
        proof=st.sampled_from(("whole", "part", "twice", "two", "none", "foreign")),
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
            "foreign": (structs.replace(whole, session_id="nobody"),),
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

    @rule(session_id=any_session, key=st.sampled_from("ab"), count=st.integers(1, 3))
    def count_usage(self, session_id: str, key: str, count: int) -> None:
        figures = UsageFigures(requests=count)
        used = Usage(figures, {"m": figures}, {"child:c": {"m": figures}})
        self.stores.ask("count_usage", session_id, key, used)

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
    @rule(age=ages, limit=st.sampled_from((1, 10, 10)))
    def forget_work(self, age: int, limit: int) -> None:
        self.stores.ask("purge_ended", self.now - age, limit)

    @precondition(lambda self: self.names > 10)
    @rule(session_id=sessions, key=st.sampled_from((None, "k1", "k2")), age=ages, limit=st.sampled_from((1, 10, 10)))
    def forget_keys(self, session_id: str, key: str | None, age: int, limit: int) -> None:
        if key is not None:
            self.enqueue_by_key(session_id, key, 0)
        self.stores.ask("purge_keys", self.now - age, limit)

    @invariant()
    def all_that_can_be_read_is_equal(self) -> None:
        self.look()


Agreement.TestCase.settings = settings(max_examples=RUNS, stateful_step_count=40, deadline=None)
TestSqliteAgreesWithMemory = pytest.mark.timeout(2 * RUNS)(Agreement.TestCase)
