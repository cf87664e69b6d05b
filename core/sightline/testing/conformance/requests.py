"""What a store promises about what turns ask of people: `sightline.turn.requests`."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from sightline.errors import (
    AlreadyAnswered,
    HeadConflict,
    InvalidInput,
    LeaseLost,
    RequestNotFound,
    SessionDeleted,
    SessionNotFound,
)
from sightline.kernel import KernelStore
from sightline.queue.model import BatchState, Boundary, DeliveryPolicy
from sightline.session.model import Request, SessionLease, Status
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
    acquire,
    claim,
    commit,
    commit_of,
    enqueue,
    everything,
    ignored,
    lease_of,
    lease_request,
    new_session,
    refused,
)
from sightline.turn.requests import Asked


def _request(name: str = "r1", *, turn: str = "t1", **fields: Any) -> Request:
    return Request(request_id=name, turn_id=turn, **{"kind": "question", "prompt": "which?", "at_ms": NOW, **fields})


async def _open(store: KernelStore, lease: SessionLease, request: Request, key: str | None = None) -> Asked:
    """Open a request, under its own name as its key."""
    told: list[Asked] = []
    key = request.request_id if key is None else key
    asked = await store.open_request(lease.session_id, request, key, lease=lease, then=told.append)
    assert told == [asked]
    return asked


async def _answer(store: KernelStore, request_id: str = "r1", answer: str = '"yes"', *, session_id: str = "s") -> Asked:
    return await store.answer_request(session_id, request_id, answer, then=ignored)


async def _open_requests(store: KernelStore, session_id: str = "s") -> tuple[Request, ...]:
    return (await store.load_session(session_id, 1)).requests


async def _status(store: KernelStore, session_id: str = "s") -> Status:
    [entry] = await store.session_entries([session_id])
    page = await store.list_sessions(limit=10, after=None, status=entry.status)
    assert entry in page.sessions
    others: tuple[Status, ...] = ("waiting", "running", "queued", "idle")
    for other in others:
        if other != entry.status:
            assert entry not in (await store.list_sessions(limit=10, after=None, status=other)).sessions
    return entry.status


async def an_open_request_is_part_of_its_session(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    plain = _request("r1", prompt="“which”?", at_ms=NOW + 7)
    rich = _request("r0", kind="approval", options=["yes", {"no": [1, None]}])
    empty = _request("r2", options=[])
    for request in (plain, rich, empty):
        assert await _open(store, lease, request) == Asked(request)
    assert await _open_requests(store) == (plain, rich, empty)
    assert await _status(store) == "waiting"


async def a_turn_asks_once_under_each_of_its_keys(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    first = _request("r1")
    await _open(store, lease, first, "k")
    assert await _open(store, lease, _request("r2", prompt="another"), "k") == Asked(first)
    other_turn = _request("r3", turn="t2")
    assert await _open(store, lease, other_turn, "k") == Asked(other_turn)
    assert await _open_requests(store) == (first, other_turn)


async def an_answer_closes_a_request_and_is_found_under_its_key(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    request = _request()
    await _open(store, lease, request, "k")
    told: list[Asked] = []
    asked = await store.answer_request("s", "r1", '{"a":[1,"ü"]}', then=told.append)
    assert told == [asked]
    assert asked == Asked(request, '{"a":[1,"ü"]}')
    assert await _open_requests(store) == ()
    assert await _open(store, lease, _request("r2"), "k") == asked
    assert await store.answers_to(["nobody", "r1"]) == {"r1": '{"a":[1,"ü"]}'}
    assert await _status(store) == "idle"


async def only_the_first_answer_counts(store: KernelStore) -> None:
    await new_session(store)
    await _open(store, await acquire(store), _request())
    await _answer(store, answer="1")
    for answer in ("1", "2"):
        error = await refused(AlreadyAnswered, _answer(store, answer=answer))
        assert (error.session_id, error.request_id, error.answer) == ("s", "r1", "1")
    assert await store.answers_to(["r1"]) == {"r1": "1"}


async def an_approval_takes_nothing_but_what_it_offers(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    await _open(store, lease, _request("r1", kind="approval", options=["yes", {"no": 1, "a": 2}]))
    await _open(store, lease, _request("r2", kind="question", options=["yes"]))
    await _open(store, lease, _request("r3", kind="approval"))
    for answer in ('"no"', "true", '{"no":true,"a":2}', "null"):
        error = await refused(InvalidInput, _answer(store, "r1", answer))
        assert error.field == "answer"
    await _answer(store, "r1", '{"a":2,"no":1}')
    await refused(AlreadyAnswered, _answer(store, "r1", '"no"'))
    await _answer(store, "r2", '"other"')
    await _answer(store, "r3", '"as you like"')
    assert len(await store.answers_to(["r1", "r2", "r3"])) == 3


async def no_answer_at_all_is_told_apart_from_an_answer_of_nothing(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    await _open(store, lease, _request("r1"))
    await _open(store, lease, _request("r2"))
    await _answer(store, answer="null")
    assert await store.answers_to(["r1", "r2"]) == {"r1": "null"}
    assert await store.answers_to([]) == {}


async def what_nobody_asked_cannot_be_answered(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    await _open(store, await acquire(store), _request())
    error = await refused(RequestNotFound, _answer(store, "nothing"))
    assert (error.session_id, error.request_id) == ("s", "nothing")
    await refused(RequestNotFound, _answer(store, session_id="other"))
    await refused(SessionNotFound, _answer(store, session_id="nobody"))
    assert await _open_requests(store) == (_request(),)


async def whoever_was_superseded_asks_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, lease=lease_request("me", ttl_ms=0))
    current = await acquire(store, "you", token="new")
    before = await everything(store)
    error = await refused(LeaseLost, _open(store, lease_of(stale), _request()))
    assert (error.session_id, error.generation) == ("s", lease_of(stale).generation)
    assert await everything(store) == before
    await store.release_lease(current)
    await refused(LeaseLost, _open(store, current, _request()))


async def a_request_outlives_its_attempt_and_the_next_finds_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    first = await claim(store, lease=lease_request("me"))
    request = _request(turn=first.turn_id)
    await _open(store, lease_of(first), request, "k")
    await abandon(store, first)
    assert await _open_requests(store) == (request,)
    assert await _status(store) == "waiting"
    second = await claim(store, lease=lease_request("you", token="new"), token="new", turn="t2")
    assert await _open(store, lease_of(second), _request("r2", turn=second.turn_id), "k") == Asked(request)


async def who_waits_is_not_charged_for_it(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    for charge in (True, True, False, True):
        held = await claim(store, lease=lease_request())
        await _open(store, lease_of(held), _request(turn=held.turn_id), "k")
        assert (await store.get_batch("s", "s:work")).attempts == 0
        [given_back] = await abandon(store, held, charge=charge)
        assert given_back.attempts == 0
        assert (await store.get_batch("s", "s:work")).attempts == 0
    held = await claim(store, lease=lease_request())
    assert held.attempt == 1
    await _open(store, lease_of(held), _request(turn=held.turn_id), "k")
    await commit(store, commit_of(held, revision=0, lease=held.lease))
    assert (await store.get_batch("s", "s:work")).attempts == 1


async def who_has_its_answer_is_charged_again(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request())
    await _open(store, lease_of(held), _request(turn=held.turn_id), "k")
    await _answer(store)
    for attempts in (0, 1, 2):
        [given_back] = await abandon(store, held)
        assert given_back.attempts == attempts
        held = await claim(store, lease=lease_request())
        await _open(store, lease_of(held), _request(turn=held.turn_id), "k")


async def waiting_forgives_all_the_work_of_its_turn_and_no_other(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "asks")
    held = await claim(store, lease=lease_request())
    await enqueue(store, "by the way", delivery_policy=DeliveryPolicy.EARLIEST_SAFE_BOUNDARY)
    await claim(store, lease=held.lease, token="other", turn=held.turn_id, boundary=Boundary.ACTIVE_TURN_CHECKPOINT)
    await enqueue(store, "waits")
    await _open(store, lease_of(held), _request(turn=held.turn_id))
    batches = await store.list_batches("s", pending_only=False, limit=10)
    assert [(batch.state, batch.attempts) for batch in batches] == [
        (BatchState.CLAIMED, 0),
        (BatchState.CLAIMED, 0),
        (BatchState.PENDING, 0),
    ]
    # What the turn does not complete is work of no turn, and was never tried.
    await commit(store, commit_of(held, revision=0, lease=held.lease))
    batches = await store.list_batches("s", pending_only=False, limit=10)
    assert [(batch.state, batch.attempts) for batch in batches] == [
        (BatchState.COMPLETED, 1),
        (BatchState.PENDING, 0),
        (BatchState.PENDING, 0),
    ]


async def a_commit_withdraws_what_its_turn_still_asks_and_keeps_what_was_answered(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, lease=lease_request())
    lease, turn = lease_of(held), held.turn_id
    other = _request("r3", turn="t9")
    for request in (_request("r1", turn=turn), _request("r2", turn=turn), other):
        await _open(store, lease, request)
    await _answer(store, "r1")
    await refused(HeadConflict, commit(store, commit_of(held, revision=7, lease=lease)))
    assert await _open_requests(store) == (_request("r2", turn=turn), other)
    await commit(store, commit_of(held, revision=0, lease=lease))
    assert await _open_requests(store) == (other,)
    await refused(RequestNotFound, _answer(store, "r2"))
    await refused(AlreadyAnswered, _answer(store, "r1"))
    await _answer(store, "r3")


async def a_commit_without_a_lease_withdraws_too(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    await _open(store, await acquire(store), _request(turn=held.turn_id))
    await commit(store, commit_of(held, revision=0))
    assert await _open_requests(store) == ()


async def answers_are_forgotten_some_time_after_their_turn(store: KernelStore) -> None:
    await new_session(store)
    for number in range(3):
        await enqueue(store, f"{number}")
        held = await claim(store, turn=f"t{number}", lease=lease_request())
        await _open(store, lease_of(held), _request(f"r{number}", turn=held.turn_id))
        await _answer(store, f"r{number}")
        if number < 2:
            await commit(store, commit_of(held, revision=number, lease=held.lease, now=NOW + number))
    assert await store.purge_requests(NOW, 10) == 0
    assert await store.purge_requests(NOW + 10, 1) == 1
    await refused(RequestNotFound, _answer(store, "r0"))
    await refused(AlreadyAnswered, _answer(store, "r1"))
    # The turn that has not ended yet may still want its answer.
    assert await store.purge_requests(NOW + 10, 10) == 1
    await refused(RequestNotFound, _answer(store, "r1"))
    await refused(AlreadyAnswered, _answer(store, "r2"))


async def requests_end_with_their_session(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    await _open(store, lease, _request())
    await _open(store, lease, _request("r2"))
    await _answer(store, "r2")
    await store.delete_session("s", NOW, ignored)
    await refused(SessionDeleted, _answer(store))
    await refused(LeaseLost, _open(store, lease, _request("r3")))
    assert await store.answers_to(["r1", "r2"]) == {}


async def a_session_that_waits_does_so_whatever_else_is_in_its_queue(store: KernelStore) -> None:
    for name in ("idle", "queued", "running"):
        await new_session(store, name)
        lease = await acquire(store, session_id=name)
        if name != "idle":
            await enqueue(store, session_id=name)
        if name == "running":
            await claim(store, session_id=name, lease=lease)
        assert await _status(store, name) == name
        await _open(store, lease, _request(f"r-{name}"))
        assert await _status(store, name) == "waiting"
        await _answer(store, f"r-{name}", session_id=name)
        assert await _status(store, name) == name


async def a_refused_answer_changes_nothing(store: KernelStore) -> None:
    await new_session(store)
    lease = await acquire(store)
    await _open(store, lease, _request())
    await _open(store, lease, structs.replace(_request(), request_id="r2"))
    await _answer(store)
    before = await everything(store)
    await refused(AlreadyAnswered, _answer(store))
    await refused(RequestNotFound, _answer(store, "nothing"))
    assert await everything(store) == before
