"""Cancelling a turn over HTTP: by its id, by the key of its work, or the one that runs (wire: section 4)."""

from __future__ import annotations

import pytest

from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json

pytestmark = pytest.mark.anyio


async def cancel(inside: Inside, **body: str) -> tuple[str | None, str]:
    """What the answer says: the turn and the state."""
    response = await inside.http.post("/v1/sessions/s/cancel", json=body)
    assert response.status_code == 200
    answer: Json = response.json()
    assert answer.keys() == {"turn_id", "state", "applied_through"}
    assert answer["applied_through"] == response.headers["sightline-applied-through"]
    return answer["turn_id"], answer["state"]


async def transcript(inside: Inside) -> list[tuple[str, str, str | None]]:
    view = (await inside.http.get("/v1/sessions/s")).json()
    messages = view["read_view"]["messages"]
    return [(message["role"], message["content"], message.get("status")) for message in messages]


# The five states


@pytest.mark.parametrize("by", ["id", "key", "neither"])
async def test_a_turn_that_runs_is_asked_to_end(inside: Inside, by: str) -> None:
    await inside.session()
    batch = await inside.running_turn(text="go", key="k")
    await inside.puppet.says("so far")
    body = {"id": {"turn_id": batch["turn_id"]}, "key": {"idempotency_key": "k"}, "neither": {}}[by]

    assert await cancel(inside, reason="enough", **body) == (batch["turn_id"], "cancel_requested")

    ended = await inside.ended(batch["batch_id"])
    assert (ended["state"], ended["attempts"], inside.puppet.cancelled) == ("cancelled", 1, 1)
    assert await transcript(inside) == [("user", "go", None), ("assistant", "so far", "cancelled")]


async def test_a_turn_can_be_asked_to_end_more_than_once(inside: Inside) -> None:
    await inside.session()
    batch = await inside.running_turn(key="k")
    commit = inside.world.faults.hold("commit")

    for body in ({}, {"turn_id": batch["turn_id"]}, {"idempotency_key": "k"}, {}):
        assert await cancel(inside, **body) == (batch["turn_id"], "cancel_requested")

    await commit.reached.wait()
    assert await cancel(inside) == (batch["turn_id"], "cancel_requested")
    commit.open()
    assert (await inside.ended(batch["batch_id"]))["state"] == "cancelled"


async def test_a_cancelled_turn_tells_the_reason(inside: Inside) -> None:
    cursor = (await inside.session())["cursor"]
    batch = await inside.running_turn()
    await cancel(inside, reason="enough")
    await inside.ended(batch["batch_id"])

    outcomes = [e["data"]["outcome"] for e in await inside.events_after(cursor) if e["kind"] == "committed"]

    assert [(outcome["status"], outcome["reason"]) for outcome in outcomes] == [("cancelled", "enough")]


async def test_a_turn_that_was_cancelled_keeps_answering_so(inside: Inside) -> None:
    await inside.session()
    batch = await inside.running_turn(key="k")
    await cancel(inside)
    await inside.ended(batch["batch_id"])

    for _ in range(2):
        assert await cancel(inside, turn_id=batch["turn_id"]) == (batch["turn_id"], "cancelled")
        assert await cancel(inside, idempotency_key="k") == (batch["turn_id"], "cancelled")


@pytest.mark.parametrize("end", ["completed", "failed"])
async def test_a_turn_that_ended_otherwise_answers_ended(inside: Inside, end: str) -> None:
    await inside.session()
    batch = await inside.running_turn(key="k")
    await (inside.puppet.ends() if end == "completed" else inside.puppet.fails(RuntimeError("x")))
    await inside.ended(batch["batch_id"])

    for _ in range(2):
        assert await cancel(inside, turn_id=batch["turn_id"]) == (batch["turn_id"], "ended")
        assert await cancel(inside, idempotency_key="k") == (batch["turn_id"], "ended")
    assert (await inside.batch(batch["batch_id"]))["state"] == end


async def test_without_a_turn_there_is_none(inside: Inside) -> None:
    await inside.session()

    assert await cancel(inside) == (None, "none")
    assert await cancel(inside, turn_id="unheard-of") == ("unheard-of", "none")
    await inside.finished_turn()
    assert await cancel(inside) == (None, "none")


async def test_work_that_waits_is_cancelled_by_its_key_at_once(idle: Inside) -> None:
    await idle.session()
    batch = await idle.turn(key="k")

    assert await cancel(idle, idempotency_key="k") == (None, "cancelled")
    assert await cancel(idle, idempotency_key="k") == (None, "cancelled")

    assert (await idle.batch(batch["batch_id"]))["state"] == "cancelled"


async def test_work_that_waits_is_not_what_runs(idle: Inside) -> None:
    await idle.session()
    batch = await idle.turn()

    assert await cancel(idle) == (None, "none")
    assert (await idle.batch(batch["batch_id"]))["state"] == "pending"


async def test_a_key_is_cancelled_before_its_work_arrives(inside: Inside) -> None:
    cursor = (await inside.session())["cursor"]
    assert await cancel(inside, idempotency_key="k") == (None, "will_cancel")
    assert await cancel(inside, idempotency_key="k") == (None, "will_cancel")

    response = await inside.http.post(
        "/v1/sessions/s/turns", json={"input": "x"}, headers={"Idempotency-Key": "k", "Prefer": "wait=0"}
    )

    batch = response.json()
    assert (batch["state"], batch["attempts"]) == ("cancelled", 0)
    assert await cancel(inside, idempotency_key="k") == (None, "cancelled")
    assert (await inside.batch(batch["batch_id"]))["state"] == "cancelled"
    kinds = [e["data"]["kind"] for e in await inside.events_after(cursor) if e["kind"] == "queue_changed"]
    assert kinds == ["cancelled"]
    await inside.finished_turn(text="another")
    assert [turn.input[0].content for turn in inside.puppet.turns] == ["another"]


async def test_work_that_arrives_cancelled_is_accepted_as_any_other(idle: Inside) -> None:
    await idle.session()
    await cancel(idle, idempotency_key="k")

    first = await idle.http.post("/v1/sessions/s/turns", json={"input": "x"}, headers={"Idempotency-Key": "k"})
    again = await idle.http.post("/v1/sessions/s/turns", json={"input": "x"}, headers={"Idempotency-Key": "k"})

    assert (first.status_code, again.status_code) == (202, 200)
    assert first.json()["batch_id"] == again.json()["batch_id"]
    assert first.json()["state"] == again.json()["state"] == "cancelled"
    assert (await idle.http.get("/v1/sessions/s/queue")).json() == {"batches": []}


# What it leaves alone


async def test_only_the_turn_that_runs_is_cancelled(inside: Inside) -> None:
    await inside.session()
    first = await inside.running_turn(text="first")
    second = await inside.turn("second")

    await cancel(inside)

    assert (await inside.ended(first["batch_id"]))["state"] == "cancelled"
    await inside.puppet.ends()
    assert (await inside.ended(second["batch_id"]))["state"] == "completed"


async def test_sessions_are_cancelled_one_by_one(inside: Inside) -> None:
    await inside.session()
    await inside.session("t")
    batch = await inside.running_turn(session="t")

    assert await cancel(inside) == (None, "none")
    assert await cancel(inside, turn_id=batch["turn_id"]) == (batch["turn_id"], "none")
    assert await cancel(inside, idempotency_key="k") == (None, "will_cancel")

    await inside.puppet.ends()
    assert (await inside.ended(batch["batch_id"], session="t"))["state"] == "completed"


async def test_a_turn_may_not_be_named_in_two_ways(idle: Inside) -> None:
    await idle.session()

    response = await idle.http.post("/v1/sessions/s/cancel", json={"turn_id": "t", "idempotency_key": "k"})

    assert_problem(response, 400, "invalid_field")


@pytest.mark.parametrize("key", ["", " k", "k ", "k\n", "x" * 256, "Zoë", "\u0000"])
async def test_a_key_that_no_turn_can_have_is_refused(idle: Inside, key: str) -> None:
    await idle.session()

    response = await idle.http.post("/v1/sessions/s/cancel", json={"idempotency_key": key})

    assert assert_problem(response, 400, "invalid_field")["field"] == "idempotency_key"
