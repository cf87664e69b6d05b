"""The small steps that the suites are told in. All of them use one session, `s`, unless told otherwise."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

from msgspec import structs

from sightline.kernel import KernelStore
from sightline.observation.activities import Outcome
from sightline.queue.model import (
    Batch,
    Boundary,
    Cancellation,
    Claim,
    Draft,
    Enqueued,
    NothingClaimed,
    TextItem,
    TurnInput,
    TurnInputPayload,
)
from sightline.session.model import (
    LaneBusy,
    LeaseRequest,
    Message,
    NewSession,
    SessionLease,
    SessionRecord,
    Usage,
    UsageFigures,
)
from sightline.turn.commit import CommitResult, TurnCommit

__all__ = [
    "NOW",
    "abandon",
    "acquire",
    "busy",
    "claim",
    "claim_nothing",
    "commit",
    "commit_of",
    "draft",
    "enqueue",
    "everything",
    "ignored",
    "lease_of",
    "lease_request",
    "message",
    "names_of",
    "new_session",
    "offer",
    "refused",
    "request_cancel",
    "run_turn",
]

NOW = 1_000_000
"""The time at which everything happens that is not told another one."""

_E = TypeVar("_E", bound=Exception)


def ignored(_: object) -> None:
    """A `then` for whom it does not matter."""


async def refused(error: type[_E], work: Awaitable[object]) -> _E:
    """The error that `work` must raise."""
    try:
        result = await work
    except error as found:
        return found
    raise AssertionError(f"{error.__name__} was expected, got {result!r}")


async def new_session(store: KernelStore, session_id: str = "s", now: int = NOW) -> SessionRecord:
    return await store.create_session(NewSession(session_id=session_id), now, ignored)


def draft(text: str = "work", *, session_id: str = "s", key: str | None = None, **options: Any) -> Draft:
    payload = TurnInputPayload(TurnInput((TextItem(text),)))
    return Draft(session_id=session_id, payloads=(payload,), source_key=key, **options)


async def offer(store: KernelStore, work: Draft, *, now: int = NOW, max_open: int = 1_000) -> Enqueued:
    """Enqueue a draft. The batch is called by its session and text, `s:work`."""
    payload = work.payloads[0]
    assert isinstance(payload, TurnInputPayload)
    item = payload.input.items[0]
    assert isinstance(item, TextItem)
    batch_id = f"{work.session_id}:{item.text}"
    return await store.enqueue(work, batch_id=batch_id, now=now, max_open=max_open, then=ignored)


async def enqueue(store: KernelStore, text: str = "work", *, now: int = NOW, **options: Any) -> Batch:
    return (await offer(store, draft(text, **options), now=now)).batch


async def claim(store: KernelStore, **options: Any) -> Claim:
    """Take what is next; there must be something."""
    taken = await _claim(store, **options)
    assert isinstance(taken, Claim), taken
    return taken


async def claim_nothing(store: KernelStore, **options: Any) -> NothingClaimed:
    taken = await _claim(store, **options)
    assert isinstance(taken, NothingClaimed), taken
    return taken


async def _claim(
    store: KernelStore,
    *,
    session_id: str = "s",
    boundary: Boundary = Boundary.IDLE,
    owner: str = "owner",
    turn: str = "t1",
    token: str = "token",
    now: int = NOW,
    ttl_ms: int = 60_000,
    max_batches: int = 64,
    lease: SessionLease | LeaseRequest | None = None,
    batch_ids: Sequence[str] | None = None,
) -> Claim | NothingClaimed:
    return await store.claim(
        session_id,
        boundary,
        owner_id=owner,
        turn_id=turn,
        lease_token=token,
        now=now,
        ttl_ms=ttl_ms,
        max_batches=max_batches,
        then=ignored,
        lease=lease,
        batch_ids=batch_ids,
    )


def names_of(held: Claim) -> list[str]:
    """The ids of a claim's batches."""
    return [batch.batch_id for batch in held.batches]


async def abandon(store: KernelStore, held: Claim, *, charge: bool = True) -> tuple[Batch, ...]:
    told: list[tuple[Batch, ...]] = []
    await store.abandon(held, charge=charge, then=told.append)
    assert len(told) == 1
    return told[0]


def lease_request(owner: str = "owner", *, token: str = "lease", ttl_ms: int = 60_000) -> LeaseRequest:
    return LeaseRequest(owner_id=owner, lease_token=token, ttl_ms=ttl_ms)


def lease_of(held: Claim) -> SessionLease:
    """The lease that came with a claim."""
    assert held.lease is not None
    return held.lease


async def acquire(store: KernelStore, owner: str = "owner", **options: Any) -> SessionLease:
    """Become the session's writer; nobody may be in the way."""
    lease = await _acquire(store, owner, **options)
    assert isinstance(lease, SessionLease), lease
    return lease


async def busy(store: KernelStore, owner: str, **options: Any) -> LaneBusy:
    """Who is in the way of `owner`; somebody must be."""
    answer = await _acquire(store, owner, **options)
    assert isinstance(answer, LaneBusy), answer
    return answer


async def _acquire(
    store: KernelStore,
    owner: str,
    *,
    session_id: str = "s",
    token: str = "lease",
    now: int = NOW,
    ttl_ms: int = 60_000,
) -> SessionLease | LaneBusy:
    return await store.acquire_lease(session_id, owner_id=owner, lease_token=token, now=now, ttl_ms=ttl_ms)


async def request_cancel(
    store: KernelStore,
    *,
    turn: str | None = None,
    key: str | None = None,
    reason: str = "enough",
    session_id: str = "s",
) -> Cancellation:
    return await store.request_cancel(session_id, turn_id=turn, source_key=key, reason=reason, now=NOW, then=ignored)


def message(name: str, *, content: str = "…", **fields: Any) -> Message:
    return Message(message_id=name, role="assistant", content=content, at_ms=NOW, **fields)


def commit_of(held: Claim, *, revision: int, says: str = "answer", **changes: Any) -> TurnCommit:
    """A turn that ended well and said one thing; `changes` name other fields."""
    plain = TurnCommit(
        session_id=held.session_id,
        turn_id=held.turn_id,
        expected_revision=revision,
        outcome=Outcome(status="completed"),
        messages=(message(f"{held.session_id}:{held.turn_id}:{revision}", content=says),),
        usage=Usage(UsageFigures(requests=1), {"model": UsageFigures(requests=1)}),
        completions=(held.completion(),),
        title="title",
        now=NOW,
    )
    return structs.replace(plain, **changes)


async def commit(store: KernelStore, work: TurnCommit) -> CommitResult:
    return await store.commit(work, ignored)


async def run_turn(store: KernelStore, *, revision: int, turn: str = "t1", **changes: Any) -> CommitResult:
    """Take what is next and commit it."""
    held = await claim(store, turn=turn)
    return await commit(store, commit_of(held, revision=revision, **changes))


async def everything(store: KernelStore, session_id: str = "s") -> tuple[object, ...]:
    """All that can be read of a session, to compare before and after. How often its lane was taken is left out."""
    return (
        structs.replace(await store.load_session(session_id, 1_000), generation=0),
        await store.list_batches(session_id, pending_only=False, limit=1_000),
        await store.list_sessions(limit=1_000, after=None, status=None),
        await store.claimable_sessions(NOW + 1_000_000, 1_000),
    )
