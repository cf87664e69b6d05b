"""SQLite agrees with memory about processes too: the same steps have the same answers, refusals and state after each.

What must be true of any registry is looked at besides: a process ends once and stays as it ended, and a log has no
holes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec import UNSET

from sightline.errors import SightlineError
from sightline.kernel import KernelStore
from sightline.process.appending import cancel_request, ending, signal
from sightline.process.attaching import MAX_INLINE
from sightline.process.model import (
    CancelledOutput,
    ConstSelector,
    Disposition,
    EventSemantics,
    EventType,
    ExternalRef,
    FailureOutput,
    NewEvent,
    NewGrant,
    PayloadSelector,
    PointerSelector,
    ProcessLease,
    ProcessScope,
    Provenance,
    Registration,
    SuccessOutput,
    TerminalRule,
    WakeRule,
)
from sightline.session.model import NewSession
from tests.conformance.drawing import choices, drifts, owners, ttls
from tests.conformance.side_by_side import SideBySide

LONG = settings.get_profile("long")
RUNS = LONG.max_examples if settings.default == LONG else 40

SESSIONS = ("s", "s/frame:f", "other")
PROCESSES = ("p", "q", "r:1", "é")
SCOPES = (*map(ProcessScope, SESSIONS), ProcessScope("s", "f"))

TYPES = (
    EventType(name="note"),
    EventType(name="count", schema={"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}),
    EventType(name="say", semantics=EventSemantics(wake=WakeRule(input=PayloadSelector(), when=PayloadSelector()))),
    EventType(
        name="alarm",
        semantics=EventSemantics(wake=WakeRule(input=PayloadSelector(), dedupe_key=ConstSelector("alarm"))),
    ),
    EventType(
        name="finished",
        semantics=EventSemantics(
            terminal=TerminalRule(state="completed", output=PointerSelector("/n")),
            wake=WakeRule(input=ConstSelector("!")),
        ),
    ),
)
DISPOSITIONS: dict[str, Disposition] = {
    "external": "externally_owned",
    "command": "owner_bound",
    "function": "rerunnable",
}
LISTS: tuple[dict[str, Any], ...] = (
    {},
    {"status": "running"},
    {"kind": "command"},
    {"status": "completed", "kind": "external"},
)

process_ids = st.sampled_from(("p", "p", "p", "q", "q", "q", "r:1", "r:1", "é", "nobody"))
scopes = st.sampled_from((*SCOPES, SCOPES[0], SCOPES[0]))
reasons = st.sampled_from(("enough", "not needed"))
descriptors = st.sampled_from(({}, {"label": "it"}, {"label": "ä", "kind": None}))
payloads = st.sampled_from(
    (None, 0, 1.0, "", "text", {"n": 1}, {"n": 1}, {"n": 1}, {"n": "x"}, {"n": 0, "more": [True]}, ["x" * MAX_INLINE])
)
outputs = st.sampled_from(
    (
        SuccessOutput(value=1),
        SuccessOutput(value={"deep": [None, 1.5]}, control={"stop": True}),
        SuccessOutput(value=["x" * MAX_INLINE]),
        FailureOutput(code="c", message="m", raw=[1]),
        CancelledOutput(message="enough"),
    )
)


class ProcessAgreement(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.stores = SideBySide()
        self.now = 10_000
        self.names = 0
        self.leases: list[ProcessLease] = []
        self.ended: dict[str, tuple[object, object]] = {}

    def teardown(self) -> None:
        self.stores.close()

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def lease_for(self, process_id: str, choice: int, under: str) -> ProcessLease | None:
        mine = [lease for lease in self.leases if lease.process_id == process_id]
        if under == "none":
            return None
        found = self.leases if under == "any" else mine
        return found[-1 - choice % min(3, len(found))] if found else None

    @initialize(kinds=st.permutations((*DISPOSITIONS, "function")))
    def begin(self, kinds: list[str]) -> None:
        for session_id in SESSIONS:
            self.stores.ask("create_session", NewSession(session_id=session_id), self.now)
        for process_id, kind in zip(PROCESSES[:3], kinds, strict=False):
            self.register(process_id, kind, 1, None, [(SCOPES[0], {})], 0)

    @rule(milliseconds=st.sampled_from((1, 5, 100)))
    def time_passes(self, milliseconds: int) -> None:
        self.now += milliseconds

    @rule(
        process_id=st.sampled_from(PROCESSES),
        kind=st.sampled_from(tuple(DISPOSITIONS)),
        value=st.sampled_from((1, 1, 1, 1.0, 2)),
        woken=st.sampled_from((None, None, SCOPES[3])),
        grants=st.lists(
            st.tuples(st.sampled_from((*SCOPES, SCOPES[0], ProcessScope("nobody"))), descriptors), max_size=2
        ),
        drift=drifts,
    )
    def register(
        self,
        process_id: str,
        kind: str,
        value: Any,
        woken: ProcessScope | None,
        grants: Sequence[tuple[ProcessScope, Any]],
        drift: int,
    ) -> None:
        registration = Registration(
            process_id=process_id,
            kind=kind,
            input={"name": "work", "value": value},
            disposition=DISPOSITIONS[kind],
            provenance=Provenance(owner_scope=SCOPES[0], caused_by={"by": self.name("cause ")}),
            event_types=TYPES,
            wake_target=UNSET if woken is None else woken,
        )
        new = tuple(NewGrant(scope=scope, descriptor=descriptor) for scope, descriptor in grants)
        self.stores.ask("register_process", registration, grants=new, now=self.now + drift)

    @rule(
        process_id=process_ids,
        event_type=st.sampled_from(
            (*(known.name for known in TYPES), "unknown", "process.completed", "process.signal")
        ),
        payload=payloads,
        key=st.sampled_from((None, None, None, "k1", "k2", "")),
        under=st.sampled_from(("its own", "its own", "none", "none", "any")),
        seen_from=st.sampled_from((None, None, None, (SCOPES[0],), (SCOPES[3], SCOPES[1]), ())),
        choice=choices,
        drift=drifts,
    )
    def append(
        self,
        process_id: str,
        event_type: str,
        payload: Any,
        key: str | None,
        under: str,
        seen_from: tuple[ProcessScope, ...] | None,
        choice: int,
        drift: int,
    ) -> None:
        event = NewEvent(event_type=event_type, payload=payload, replay_key=UNSET if key is None else key)
        lease = self.lease_for(process_id, choice, under)
        self.stores.ask("append_event", process_id, event, now=self.now + drift, lease=lease, seen_from=seen_from)

    @precondition(lambda self: self.names > 10)
    @rule(
        process_id=process_ids,
        output=outputs,
        under=st.sampled_from(("its own", "none", "any")),
        choice=choices,
        drift=drifts,
    )
    def end(self, process_id: str, output: Any, under: str, choice: int, drift: int) -> None:
        lease = self.lease_for(process_id, choice, under)
        self.stores.ask("append_event", process_id, ending(process_id, output), now=self.now + drift, lease=lease)

    @rule(process_id=process_ids, reason=reasons, send=st.booleans(), choice=choices)
    def ask_for_something(self, process_id: str, reason: str, send: bool, choice: int) -> None:
        event = signal(process_id, f"sig-{choice % 3}", reason) if send else cancel_request(process_id, reason)
        self.stores.ask("append_event", process_id, event, now=self.now)

    # Leases

    @rule(process_id=process_ids, owner=owners, ttl_ms=ttls, drift=drifts)
    def acquire(self, process_id: str, owner: str, ttl_ms: int, drift: int) -> None:
        lease = self.stores.ask(
            "acquire_process_lease",
            process_id,
            owner_id=owner,
            lease_token=self.name("token"),
            now=self.now + drift,
            ttl_ms=ttl_ms,
        )
        if isinstance(lease, ProcessLease):
            self.leases.append(lease)

    @precondition(lambda self: self.leases)
    @rule(choice=choices, ttl_ms=ttls, drift=drifts, wish=st.sampled_from(("renew", "wait", "release", "hand back")))
    def keep_or_release(self, choice: int, ttl_ms: int, drift: int, wish: str) -> None:
        lease = self.leases[-1 - choice % min(3, len(self.leases))]
        if wish in ("release", "hand back"):
            self.stores.ask("release_process_lease", lease, charge=wish == "release")
            return
        longer = self.stores.ask(
            "renew_process_lease", lease, now=self.now + drift, ttl_ms=ttl_ms, waits=wish == "wait"
        )
        if longer is not None:
            self.leases.append(longer)

    @rule(process_id=process_ids, drift=drifts)
    def give_up(self, process_id: str, drift: int) -> None:
        self.stores.ask("abandon_process", process_id, found_by="finder", now=self.now + drift)

    @rule(
        process_id=process_ids, owner=owners, output=outputs, far=st.sampled_from(("begun", "told", "ended", "ended"))
    )
    def run(self, process_id: str, owner: str, output: Any, far: str) -> None:
        """As a worker does it; at times one that dies under way, and is missed only then."""
        self.now += 1_000
        self.acquire(process_id, owner, 1_000, 0)
        if far != "begun":
            self.append(process_id, "say", self.name("line "), "k1", "its own", None, 0, 0)
        if far == "ended":
            self.end(process_id, output, "its own", 0, 0)
            self.end(process_id, output, "its own", 0, 0)
        else:
            self.now += 1_000
            self.give_up(process_id, 0)

    # Grants

    @rule(process_id=process_ids, scope=scopes, descriptor=descriptors, revoke=st.sampled_from((True, False, False)))
    def grant_or_revoke(self, process_id: str, scope: ProcessScope, descriptor: Any, revoke: bool) -> None:
        if revoke:
            self.stores.ask("revoke_process", process_id, scope)
        else:
            self.stores.ask("grant_process", process_id, scope, descriptor)

    @rule(source=scopes, to=scopes, process_ids=st.lists(st.sampled_from(PROCESSES), max_size=3))
    def hand_over(self, source: ProcessScope, to: ProcessScope, process_ids: list[str]) -> None:
        self.stores.ask("transfer_grants", source, to, process_ids)

    @rule(scope=scopes, keep=st.lists(st.sampled_from(PROCESSES), max_size=3), reason=reasons, whole=st.booleans())
    def take_away(self, scope: ProcessScope, keep: list[str], reason: str, whole: bool) -> None:
        if whole:
            self.stores.ask("end_grants", scope.session_id, reason=reason, now=self.now)
        else:
            self.stores.ask("cancel_unreferenced", scope, keep, reason=reason, now=self.now)

    @precondition(lambda self: self.names > 15)
    @rule(session_id=st.sampled_from(("other", "s/frame:f", "nobody")))
    def delete_session(self, session_id: str) -> None:
        self.stores.ask("delete_session", session_id, self.now)

    @rule(process_id=process_ids, name=st.sampled_from(("a", "b", "")))
    def call_it_elsewhere(self, process_id: str, name: str) -> None:
        self.stores.ask("set_external_ref", process_id, ExternalRef(backend="farm", id=name), now=self.now)

    # Wakes

    @rule(choice=choices)
    def deliver(self, choice: int) -> None:
        pending = self.stores.look(lambda store: store.pending_wakes(limit=3))
        position = pending[choice % len(pending)].position if pending else choice
        self.stores.ask("deliver_wake", position, batch_id=self.name("batch "), now=self.now, max_open=3)

    # What must be true

    @invariant()
    def all_that_can_be_read_is_equal(self) -> None:
        seen, _ = self.stores.look(self.everything)
        for process_id, (record, events) in seen.items():
            assert [event.sequence for event in events] == list(range(1, record.last_sequence + 1))
            ends = [event.output for event in events if event.output is not UNSET]
            assert ends == ([record.output] if record.is_terminal else [])
            if process_id in self.ended:
                assert (record.status, record.output) == self.ended[process_id]
            elif record.is_terminal:
                self.ended[process_id] = record.status, record.output

    async def everything(self, store: KernelStore) -> tuple[dict[str, Any], list[object]]:
        records: dict[str, Any] = {}
        rest: list[object] = []
        for process_id in PROCESSES:
            try:
                record = await store.get_process(process_id)
            except SightlineError as error:
                rest.append((type(error), error.args))
                continue
            records[process_id] = record, await store.list_process_events(process_id, after=0, limit=1_000)
            rest.append(await store.list_process_events(process_id, after=1, limit=2))
            rest.append(await store.list_process_events(process_id, after=0, limit=2, event_type="note"))
            rest.append(await store.grants_of_process(process_id))
        for scope in SCOPES:
            rest.append(tuple(await store.list_handle_grants(scope)))
            rest.append(tuple(await store.list_live_handle_grants(scope)))
        for session_id in SESSIONS:
            try:
                rest.append((await store.load_session(session_id, 1)).processes)
            except SightlineError as error:
                rest.append((type(error), error.args))
        rest.append(await store.pending_wakes(limit=1_000))
        rest.append([entry.wake for entry in await store.pending_wakes(limit=1, after=1)])
        for wanted in LISTS:
            first = await store.list_processes(limit=2, after=None, **wanted)
            rest.append(first)
            if first.next is not None:
                rest.append(await store.list_processes(limit=2, after=int(first.next), **wanted))
        rest.append(await store.runnable_processes(now=self.now, limit=2))
        rest.append(await store.runnable_processes(now=self.now, limit=9, after="p", host_profile_id="default"))
        return records, rest


ProcessAgreement.TestCase.settings = settings(max_examples=RUNS, stateful_step_count=40, deadline=None)
TestSqliteAgreesWithMemoryAboutProcesses = pytest.mark.timeout(2 * RUNS)(ProcessAgreement.TestCase)
