"""SQLite agrees with memory, the specification: the same steps have the same answers, refusals and state after each."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec import structs

from sightline.kernel import KernelStore
from sightline.observation.activities import Outcome
from sightline.queue.model import (
    Boundary,
    Claim,
    DeliveryPolicy,
    Draft,
    Group,
    MergeKey,
    SlotPolicy,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.session.model import Failure, Message, NewSession, Status, Usage, UsageFigures
from sightline.stores.memory import MemoryStore
from sightline.stores.sqlite import SqliteStore
from sightline.testing.clock import ManualClock
from sightline.turn.commit import TurnCommit

SESSIONS = ("s", "a:b")
sessions = st.sampled_from(SESSIONS)
keys = st.sampled_from((None, None, "k1", "k2"))
merge_keys = st.sampled_from(("never", "payload_default", Group("g"), Group("h")))
outcomes = st.sampled_from(
    (
        Outcome(status="completed"),
        Outcome(status="cancelled", reason="enough"),
        Outcome(status="failed", error=Failure("agent_error", "it broke")),
    )
)


def told(work: Callable[..., Awaitable[object]]) -> Callable[..., Coroutine[Any, Any, object]]:
    """What a call tells, by any of its ways: its result or its error, and what `then` got."""

    async def call(*args: Any, **kwargs: Any) -> object:
        heard: list[object] = []
        try:
            result = await work(*args, **kwargs, then=heard.append)
        except Exception as error:
            return type(error), error.args, heard
        return result, heard

    return call


class Agreement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        self.runner = asyncio.Runner()
        self.memory: KernelStore = MemoryStore(ManualClock())
        self.sqlite: KernelStore = SqliteStore.open(Path(self.folder) / "store.db", "NORMAL")
        self.now = 1_000
        self.names = 0
        self.claims: list[Claim] = []
        self.commits: list[TurnCommit] = []
        self.revisions = dict.fromkeys(SESSIONS, 0)

    def teardown(self) -> None:
        self.runner.run(self.sqlite.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def both(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call both stores, compare all they tell, and return the result if there is one."""
        memory = self.runner.run(told(getattr(self.memory, method))(*args, **kwargs))
        sqlite = self.runner.run(told(getattr(self.sqlite, method))(*args, **kwargs))
        assert sqlite == memory
        assert isinstance(memory, tuple)
        return memory[0] if len(memory) == 2 else None

    def batches(self, session_id: str) -> list[str]:
        try:
            listed = self.runner.run(self.memory.list_batches(session_id, pending_only=False, limit=100))
        except Exception:
            return []
        return [batch.batch_id for batch in listed]

    @initialize(metadata=st.dictionaries(st.text(), st.none() | st.booleans() | st.integers(-9, 9) | st.text()))
    def begin(self, metadata: dict[str, Any]) -> None:
        self.both("create_session", NewSession(session_id="s", metadata=metadata), self.now)

    @rule(session_id=sessions)
    def create(self, session_id: str) -> None:
        self.both("create_session", NewSession(session_id=session_id), self.now)

    @rule(session_id=sessions, sure=st.integers(0, 9))
    def delete(self, session_id: str, sure: int) -> None:
        if sure == 0:
            self.both("delete_session", session_id, self.now)

    @rule(milliseconds=st.sampled_from((1, 5, 100)))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(
        session_id=sessions,
        texts=st.lists(st.sampled_from(("a", "b", "")), min_size=1, max_size=2),
        key=keys,
        delivery=st.sampled_from(DeliveryPolicy),
        slot=st.sampled_from(SlotPolicy),
        merge_key=merge_keys,
        delay=st.sampled_from((None, 0, 5)),
        max_open=st.sampled_from((2, 50)),
    )
    def enqueue(
        self,
        session_id: str,
        texts: list[str],
        key: str | None,
        delivery: DeliveryPolicy,
        slot: SlotPolicy,
        merge_key: MergeKey,
        delay: int | None,
        max_open: int,
    ) -> None:
        draft = Draft(
            session_id=session_id,
            payloads=tuple(TurnInputPayload(TurnInput((TextItem(text),))) for text in texts),
            source_key=key,
            delivery_policy=delivery,
            slot_policy=slot,
            merge_key=merge_key,
            available_at_ms=0 if delay is None else self.now + delay,
        )
        self.both("enqueue", draft, batch_id=self.name("b"), now=self.now, max_open=max_open)

    @rule(
        session_id=sessions,
        boundary=st.sampled_from((Boundary.IDLE, Boundary.IDLE, Boundary.ACTIVE_TURN_CHECKPOINT)),
        ttl_ms=st.sampled_from((0, 5, 1_000)),
        max_batches=st.sampled_from((0, 1, 2, 64)),
    )
    def claim(self, session_id: str, boundary: Boundary, ttl_ms: int, max_batches: int) -> None:
        claim = self.both(
            "claim",
            session_id,
            boundary,
            owner_id="owner",
            turn_id=self.name("t"),
            lease_token=self.name("token"),
            now=self.now,
            ttl_ms=ttl_ms,
            max_batches=max_batches,
        )
        if isinstance(claim, Claim):
            self.claims.append(claim)

    @rule(choice=st.integers(0, 99), charge=st.booleans())
    def abandon(self, choice: int, charge: bool) -> None:
        if self.claims:
            self.both("abandon", self.claims[-1 - choice % len(self.claims)], charge=charge)

    @rule(
        choice=st.integers(0, 3),
        drift=st.sampled_from((0, 0, 0, 1)),
        outcome=outcomes,
        count=st.integers(0, 3),
        charge=st.booleans(),
        whole=st.sampled_from((True, True, False)),
    )
    def commit(self, choice: int, drift: int, outcome: Outcome, count: int, charge: bool, whole: bool) -> None:
        if not self.claims:
            return
        claim = self.claims[-1 - choice % len(self.claims)]
        completion = claim.completion()
        if not whole:
            completion = structs.replace(completion, batch_ids=completion.batch_ids[1:])
        commit = TurnCommit(
            session_id=claim.session_id,
            turn_id=claim.turn_id,
            expected_revision=self.revisions[claim.session_id] + drift,
            outcome=outcome,
            messages=tuple(
                Message(message_id=self.name("m"), role="assistant", content=f"{number}", at_ms=self.now)
                for number in range(count)
            ),
            usage=Usage(UsageFigures(requests=count), {"m": UsageFigures(requests=count)}),
            completions=(completion,),
            title=self.name("title "),
            now=self.now,
            charge=charge,
        )
        if self.both("commit", commit) is not None:
            self.commits.append(commit)

    @rule(choice=st.integers(0, 99), says=st.sampled_from((None, "other")))
    def commit_again(self, choice: int, says: str | None) -> None:
        if self.commits:
            commit = self.commits[choice % len(self.commits)]
            if says is not None:
                message = Message(message_id=self.name("m"), role="user", content=says, at_ms=self.now)
                commit = structs.replace(commit, messages=(message,))
            self.both("commit", commit)

    @rule(session_id=sessions, choice=st.integers(0, 99), onward=st.booleans())
    def cancel(self, session_id: str, choice: int, onward: bool) -> None:
        names = [*self.batches(session_id), "nobody"]
        batch_id = names[choice % len(names)]
        self.both("cancel_from" if onward else "cancel_batch", session_id, batch_id, now=self.now)

    @rule(session_id=sessions, key=keys, by_turn=st.booleans(), choice=st.integers(0, 99))
    def request_cancel(self, session_id: str, key: str | None, by_turn: bool, choice: int) -> None:
        turns = [*(claim.turn_id for claim in self.claims), "nobody"]
        self.both(
            "request_cancel",
            session_id,
            turn_id=turns[choice % len(turns)] if by_turn else None,
            source_key=key,
            reason=self.name("reason "),
            now=self.now,
        )

    @rule(age=st.sampled_from((0, 5)), limit=st.sampled_from((1, 10)))
    def purge(self, age: int, limit: int) -> None:
        for store in (self.memory, self.sqlite):
            self.runner.run(store.purge_ended(self.now - age, limit))

    @invariant()
    def all_that_can_be_read_is_equal(self) -> None:
        memory, sqlite = (self.runner.run(self.read(store)) for store in (self.memory, self.sqlite))
        assert sqlite == memory
        for session_id in SESSIONS:
            state = memory[0].get(session_id)
            self.revisions[session_id] = 0 if state is None else state.record.revision

    async def read(self, store: KernelStore) -> tuple[dict[str, Any], list[object]]:
        states: dict[str, Any] = {}
        rest: list[object] = [await store.claimable_sessions(self.now, 10), await store.next_due(self.now)]
        for session_id in SESSIONS:
            try:
                states[session_id] = await store.load_session(session_id, 2)
            except Exception as error:
                rest.append((type(error), error.args))
                continue
            newest = await store.page_messages(session_id, before=None, limit=2)
            rest += [
                await store.list_batches(session_id, pending_only=False, limit=3),
                await store.list_batches(session_id, pending_only=True, limit=3),
                newest,
                await store.page_messages(session_id, before=newest.next, limit=1),
            ]
        statuses: tuple[Status | None, ...] = (None, "idle", "queued", "running")
        rest += [await store.list_sessions(limit=1, after=None, status=status) for status in statuses]
        return states, rest


Agreement.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSqliteAgreesWithMemory = Agreement.TestCase
