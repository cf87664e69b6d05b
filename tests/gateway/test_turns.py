"""Turns over HTTP: accepted, replayed, waited for, refused (wire: section 4)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from sightline.kernel import Limits
from sightline.stores.sqlite import SqliteStore
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json, opened, until

pytestmark = pytest.mark.anyio

BATCH = {
    "batch_id",
    "session_id",
    "enqueue_seq",
    "state",
    "delivery_policy",
    "slot_policy",
    "merge_key",
    "available_at_ms",
    "enqueued_at_ms",
    "items",
    "attempts",
}


async def post(inside: Inside, body: Json, **headers: str) -> httpx.Response:
    """A turn in session `s`; `Idempotency_Key="k"` is the header `Idempotency-Key: k`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await inside.http.post("/v1/sessions/s/turns", json=body, headers=named)


# Accepting


async def test_an_accepted_turn_is_answered_with_its_batch_and_where_to_find_it(idle: Inside) -> None:
    await idle.session()

    response = await post(idle, {"input": "hello"})

    assert response.status_code == 202
    batch = response.json()
    assert batch.keys() == BATCH | {"applied_through"}
    assert response.headers["sightline-applied-through"] == batch["applied_through"]
    assert response.headers["location"] == f"/v1/sessions/s/queue/{batch['batch_id']}"
    assert "idempotency-replayed" not in response.headers
    assert "preference-applied" not in response.headers
    expected = {
        "session_id": "s",
        "state": "pending",
        "delivery_policy": "after_current_turn_commit",
        "slot_policy": "exclusive",
        "merge_key": "never",
        "available_at_ms": batch["enqueued_at_ms"],
        "attempts": 0,
    }
    assert {name: batch[name] for name in expected} == expected
    [item] = batch["items"]
    assert item["payload"] == {"type": "turn_input", "input": {"items": [{"type": "text", "text": "hello"}]}}
    found = (await idle.http.get(response.headers["location"])).json()
    assert found == {name: value for name, value in batch.items() if name != "applied_through"}


async def test_an_accepted_turn_keeps_what_it_was_asked_for(idle: Inside) -> None:
    await idle.session()
    asked = {
        "delivery_policy": "earliest_safe_boundary",
        "slot_policy": "join",
        "merge_key": {"group": "g"},
        "available_at_ms": 2**62,
    }

    batch = (await post(idle, {"input": "x", **asked}, Idempotency_Key="a key")).json()

    assert {name: batch[name] for name in asked} == asked
    assert batch["source_key"] == "host:a key"
    assert batch.keys() == BATCH | {"source_key", "applied_through"}


async def test_an_input_may_come_in_items(idle: Inside) -> None:
    await idle.session()
    items = [{"type": "text", "text": "one"}, {"type": "text", "text": "two\nthree"}]

    batch = (await post(idle, {"input": {"items": items}})).json()

    assert batch["items"][0]["payload"]["input"] == {"items": items}


async def test_what_was_accepted_is_run(inside: Inside) -> None:
    await inside.session()

    batch = await inside.finished_turn(says="done", key="k")

    assert batch.keys() == BATCH | {"turn_id", "source_key"}
    assert (batch["state"], batch["attempts"]) == ("completed", 1)


async def test_a_stream_that_passed_applied_through_has_shown_the_write(idle: Inside) -> None:
    before = (await idle.session())["cursor"]

    batch = await idle.turn()

    events = await idle.events_after(before)
    place = [event["cursor"] for event in events].index(batch["applied_through"])
    shown = [event["data"]["batch_ids"] for event in events[: place + 1] if event["kind"] == "queue_changed"]
    assert shown == [[batch["batch_id"]]]
    assert await idle.events_after(batch["applied_through"]) == []


async def test_a_delayed_turn_waits_for_its_time() -> None:
    async with opened() as inside:
        await inside.session()
        batch = await inside.turn(available_at_ms=inside.world.clock.now_ms() + 60_000)

        await inside.world.clock.run_for(59)
        assert (await inside.batch(batch["batch_id"]))["state"] == "pending"

        await inside.world.clock.run_for(2)
        assert (await inside.batch(batch["batch_id"]))["state"] == "claimed"
        await inside.puppet.ends()


# The key


async def test_the_same_key_is_the_same_work(inside: Inside) -> None:
    await inside.session()
    first = await post(inside, {"input": "x"}, Idempotency_Key="k")
    again = await post(inside, {"input": "x"}, Idempotency_Key="k")

    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert again.json()["batch_id"] == first.json()["batch_id"]
    assert "sightline-applied-through" in again.headers
    queue = (await inside.http.get("/v1/sessions/s/queue?state=all")).json()
    assert len(queue["batches"]) == 1


async def test_a_default_that_is_said_is_the_same_content(idle: Inside) -> None:
    await idle.session()
    first = await post(idle, {"input": "x"}, Idempotency_Key="k")
    said = {"input": {"items": [{"type": "text", "text": "x"}]}, "slot_policy": "exclusive", "merge_key": "never"}

    again = await post(idle, said, Idempotency_Key="k")

    assert again.status_code == 200
    assert again.json()["batch_id"] == first.json()["batch_id"]


async def test_a_key_survives_the_end_of_its_work(inside: Inside) -> None:
    await inside.session()
    batch = await inside.finished_turn(key="k")

    again = await post(inside, {"input": "hello"}, Idempotency_Key="k")

    assert again.status_code == 200
    assert (again.json()["batch_id"], again.json()["state"]) == (batch["batch_id"], "completed")
    assert len(inside.puppet.turns) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"input": "y"},
        {"input": "x "},
        {"input": "x", "slot_policy": "join"},
        {"input": "x", "delivery_policy": "earliest_safe_boundary"},
        {"input": "x", "merge_key": {"group": "never"}},
        {"input": "x", "available_at_ms": 1},
    ],
)
async def test_the_key_with_other_content_is_refused(idle: Inside, other: Json) -> None:
    await idle.session()
    await post(idle, {"input": "x"}, Idempotency_Key="k")

    assert_problem(await post(idle, other, Idempotency_Key="k"), 422, "idempotency_key_reused")
    assert len((await idle.http.get("/v1/sessions/s/queue")).json()["batches"]) == 1


async def test_keys_belong_to_their_session(idle: Inside) -> None:
    await idle.session("s")
    await idle.session("t")

    batches = [await idle.turn(session=session, key="k") for session in ("s", "t")]

    assert batches[0]["batch_id"] != batches[1]["batch_id"]


async def test_many_posts_of_one_key_at_once_are_one_work(inside: Inside) -> None:
    await inside.session()

    answers = await asyncio.gather(*(post(inside, {"input": "x"}, Idempotency_Key="k") for _ in range(20)))

    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [202]
    assert len({answer.json()["batch_id"] for answer in answers}) == 1


async def test_a_key_is_known_after_a_restart(tmp_path: Path) -> None:
    async with opened(store=SqliteStore.open(tmp_path / "db", "NORMAL")) as inside:
        await inside.session()
        batch = await inside.finished_turn(key="k")
    async with opened(store=SqliteStore.open(tmp_path / "db", "NORMAL")) as inside:
        again = await post(inside, {"input": "hello"}, Idempotency_Key="k")
        other = await post(inside, {"input": "other"}, Idempotency_Key="k")

    assert (again.status_code, again.json()["batch_id"]) == (200, batch["batch_id"])
    assert_problem(other, 422, "idempotency_key_reused")


async def test_the_longest_key_is_taken(idle: Inside) -> None:
    await idle.session()
    key = "~" * 255

    assert (await post(idle, {"input": "x"}, Idempotency_Key=key)).json()["source_key"] == f"host:{key}"


@pytest.mark.parametrize("key", [b"", b" ", b"x" * 256, b"tab\there", b"\x7f", b"\x01", "Zoë".encode()])
async def test_a_key_that_no_header_should_hold_is_refused(idle: Inside, key: bytes) -> None:
    await idle.session()

    response = await idle.http.post("/v1/sessions/s/turns", json={"input": "x"}, headers=[(b"Idempotency-Key", key)])

    assert assert_problem(response, 400, "invalid_field")["field"] == "Idempotency-Key"


async def test_two_keys_are_refused(idle: Inside) -> None:
    await idle.session()
    headers = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]

    response = await idle.http.post("/v1/sessions/s/turns", json={"input": "x"}, headers=headers)

    assert assert_problem(response, 400, "invalid_field")["field"] == "Idempotency-Key"


# Waiting


async def test_a_wait_is_answered_when_the_work_has_ended(inside: Inside) -> None:
    await inside.session()
    answer = asyncio.create_task(post(inside, {"input": "x"}, Prefer="wait=30"))
    await until(lambda: len(inside.puppet.turns) == 1)
    await inside.puppet.says("hi")
    assert not answer.done()
    await inside.puppet.ends()

    response = await answer

    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=30"
    assert response.headers["location"].endswith(response.json()["batch_id"])
    assert (response.json()["state"], response.json()["attempts"]) == ("completed", 1)
    assert "idempotency-replayed" not in response.headers


async def test_a_wait_for_work_that_fails_brings_its_error(inside: Inside) -> None:
    await inside.session()
    answer = asyncio.create_task(post(inside, {"input": "x"}, Prefer="wait=30"))
    await until(lambda: len(inside.puppet.turns) == 1)
    await inside.puppet.fails(RuntimeError("no luck"))

    response = await answer

    assert response.status_code == 200
    assert response.json()["state"] == "failed"
    assert "no luck" in response.json()["error"]["message"]
    assert response.json().keys() == BATCH | {"turn_id", "error", "applied_through"}


async def test_a_wait_that_is_over_first_brings_the_batch_as_it_is(idle: Inside) -> None:
    await idle.session()

    response = await post(idle, {"input": "x"}, Prefer="wait=0")

    assert response.status_code == 202
    assert response.headers["preference-applied"] == "wait=0"
    assert response.json()["state"] == "pending"


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("wait=5", "wait=5"),
        ('respond-async, wait="5"', "wait=5"),
        (" wait = 5 ; x=y", "wait=5"),
        ("wait=61", "wait=60"),
        ("wait=999999999", "wait=60"),
        ("wait=-1", None),
        ("wait=1.5", None),
        ("wait=１", None),
        ("wait", None),
        ("", None),
        ("return=minimal", None),
        ("wait=" + "9" * 5000, None),
    ],
)
async def test_a_preference_is_applied_as_far_as_it_can_be_read(
    inside: Inside, prefer: str, applied: str | None
) -> None:
    await inside.session()
    await inside.finished_turn(key="k")

    headers = [(b"Idempotency-Key", b"k"), (b"Prefer", prefer.encode())]
    response = await inside.http.post("/v1/sessions/s/turns", json={"input": "hello"}, headers=headers)

    assert response.status_code == 200
    assert response.headers.get("preference-applied") == applied


async def test_preferences_may_come_in_several_headers(inside: Inside) -> None:
    await inside.session()
    await inside.finished_turn(key="k")
    headers = [("Idempotency-Key", "k"), ("Prefer", "respond-async"), ("Prefer", "wait=3")]

    response = await inside.http.post("/v1/sessions/s/turns", json={"input": "hello"}, headers=headers)

    assert response.headers["preference-applied"] == "wait=3"


async def test_a_replayed_key_may_wait_too(inside: Inside) -> None:
    await inside.session()
    await inside.running_turn(key="k")
    answer = asyncio.create_task(post(inside, {"input": "hello"}, Idempotency_Key="k", Prefer="wait=30"))
    await inside.puppet.ends()

    response = await answer

    assert response.status_code == 200
    assert response.headers["idempotency-replayed"] == "true"
    assert response.json()["state"] == "completed"


async def test_a_wait_ends_with_its_session(inside: Inside) -> None:
    await inside.session()
    answer = asyncio.create_task(post(inside, {"input": "x"}, Prefer="wait=30"))
    await until(lambda: len(inside.puppet.turns) == 1)

    await inside.http.delete("/v1/sessions/s")

    assert_problem(await answer, 410, "session_deleted")


async def test_a_wait_ends_when_the_server_has_drained(inside: Inside) -> None:
    await inside.session()
    answer = asyncio.create_task(post(inside, {"input": "x"}, Prefer="wait=30"))
    await until(lambda: len(inside.puppet.turns) == 1)

    await inside.world.kernel.drain(0)
    inside.gateway.drained.set()

    response = await answer
    assert response.status_code == 202
    assert (response.json()["state"], response.json()["attempts"]) == ("pending", 0)


async def test_a_wait_ends_when_nobody_waits_any_more(inside: Inside) -> None:
    await inside.session()
    body = b'{"input": "x"}'
    incoming: asyncio.Queue[Any] = asyncio.Queue()
    incoming.put_nowait({"type": "http.request", "body": body, "more_body": False})
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "path": "/v1/sessions/s/turns",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"prefer", b"wait=60"), (b"content-length", b"%d" % len(body))],
    }

    async def serve() -> None:
        await inside.app(scope, incoming.get, send)

    serving = asyncio.create_task(serve())
    await until(lambda: len(inside.puppet.turns) == 1)
    assert not serving.done()

    incoming.put_nowait({"type": "http.disconnect"})

    await asyncio.wait_for(serving, 10)


# Refusing


async def test_a_full_queue_is_said_with_when_to_come_back() -> None:
    async with opened(limits=Limits(max_queue=2), start=False) as idle:
        await idle.session()
        first = await idle.turn(key="first")
        await idle.turn()

        response = await post(idle, {"input": "x"})

        problem = assert_problem(response, 429, "queue_full")
        assert problem["retryable"] is True
        assert int(response.headers["retry-after"]) >= 1
        assert (await idle.turn(key="first"))["batch_id"] == first["batch_id"], "a replay takes no place"
        await idle.http.delete(f"/v1/sessions/s/queue/{first['batch_id']}")
        assert (await post(idle, {"input": "x"})).status_code == 202


async def test_a_full_queue_is_one_sessions_own() -> None:
    async with opened(limits=Limits(max_queue=1), start=False) as idle:
        for session in ("s", "t"):
            await idle.session(session)
            await idle.turn(session=session)


async def test_a_draining_server_takes_no_more_work_and_still_answers(idle: Inside) -> None:
    await idle.session()
    batch = await idle.turn()
    await idle.world.kernel.drain(0)

    for refused in (
        await post(idle, {"input": "x"}),
        await idle.http.post("/v1/sessions", json={}),
        await idle.http.put("/v1/sessions/new", json={}),
    ):
        assert assert_problem(refused, 503, "draining")["retryable"] is True
        assert int(refused.headers["retry-after"]) >= 1
    assert (await idle.http.get("/v1/sessions/s")).status_code == 200
    assert (await idle.http.get(f"/v1/sessions/s/queue/{batch['batch_id']}")).status_code == 200
    assert (await idle.http.delete(f"/v1/sessions/s/queue/{batch['batch_id']}")).status_code == 200
    assert (await idle.http.post("/v1/sessions/s/cancel", json={})).status_code == 200
