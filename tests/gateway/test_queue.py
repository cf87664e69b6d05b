"""The queue over HTTP: listed, looked into, cancelled from (wire: section 4)."""

from __future__ import annotations

import pytest

from sightline.kernel import Limits
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json, opened

pytestmark = pytest.mark.anyio

QUEUE = "/v1/sessions/s/queue"


async def listed(inside: Inside, state: str = "pending") -> list[tuple[str, str]]:
    """The texts and states of the queue, in order."""
    body = (await inside.http.get(f"{QUEUE}?state={state}")).json()
    assert body.keys() == {"batches"}
    sequence = [batch["enqueue_seq"] for batch in body["batches"]]
    assert sequence == sorted(set(sequence))
    return [(text_of(batch), batch["state"]) for batch in body["batches"]]


def text_of(batch: Json) -> str:
    text: str = batch["items"][0]["payload"]["input"]["items"][0]["text"]
    return text


async def test_the_queue_lists_pending_work_in_order(idle: Inside) -> None:
    await idle.session()
    await idle.session("t")
    for text in ("a", "b", "c"):
        await idle.turn(text)
        await idle.turn(f"other {text}", session="t")

    assert await listed(idle) == [("a", "pending"), ("b", "pending"), ("c", "pending")]
    assert (await idle.http.get(QUEUE)).json() == (await idle.http.get(f"{QUEUE}?state=pending")).json()


async def test_the_whole_queue_also_lists_what_is_taken_and_what_has_ended(inside: Inside) -> None:
    await inside.session()
    await inside.finished_turn(text="done")
    failing = await inside.running_turn(text="broken")
    await inside.puppet.fails(RuntimeError("x"))
    await inside.ended(failing["batch_id"])
    await inside.running_turn(text="runs")
    await inside.turn("waits")
    dropped = await inside.turn("dropped")
    await inside.http.delete(f"{QUEUE}/{dropped['batch_id']}")

    assert await listed(inside, "all") == [
        ("done", "completed"),
        ("broken", "failed"),
        ("runs", "claimed"),
        ("waits", "pending"),
        ("dropped", "cancelled"),
    ]
    assert await listed(inside) == [("waits", "pending")]
    await inside.puppet.ends()


async def test_a_batch_is_found_in_each_of_its_states(inside: Inside) -> None:
    await inside.session()
    running = await inside.running_turn(text="runs")
    waiting = await inside.turn("waits")

    found = {batch["batch_id"]: await inside.batch(batch["batch_id"]) for batch in (running, waiting)}

    assert (found[running["batch_id"]]["state"], found[running["batch_id"]]["attempts"]) == ("claimed", 1)
    assert found[running["batch_id"]]["turn_id"]
    assert (found[waiting["batch_id"]]["state"], found[waiting["batch_id"]]["attempts"]) == ("pending", 0)
    assert "turn_id" not in found[waiting["batch_id"]]
    await inside.puppet.fails(RuntimeError("broke"))
    failed = await inside.ended(running["batch_id"])
    assert (failed["state"], failed["attempts"]) == ("failed", 1)
    assert failed["error"].keys() == {"code", "message"}
    await inside.puppet.ends()
    assert (await inside.ended(waiting["batch_id"]))["state"] == "completed"


async def test_no_lease_token_leaves_the_server(inside: Inside) -> None:
    await inside.session()
    batch = await inside.running_turn()

    for path in (QUEUE + "?state=all", f"{QUEUE}/{batch['batch_id']}", "/v1/sessions/s"):
        text = (await inside.http.get(path)).text
        assert "token-" not in text, "the ids of these tests spell tokens like that"
        assert "lease" not in text
    await inside.puppet.ends()


async def test_a_batch_is_not_found_in_another_session(idle: Inside) -> None:
    await idle.session()
    await idle.session("t")
    batch = await idle.turn(session="t")

    for method, path in [
        ("GET", f"{QUEUE}/{batch['batch_id']}"),
        ("DELETE", f"{QUEUE}/{batch['batch_id']}"),
        ("DELETE", f"{QUEUE}?from={batch['batch_id']}"),
        ("GET", f"{QUEUE}/nothing"),
        ("DELETE", f"{QUEUE}/nothing"),
        ("DELETE", f"{QUEUE}?from=nothing"),
        ("DELETE", f"{QUEUE}?from=%00"),
    ]:
        assert_problem(await idle.http.request(method, path), 404, "batch_not_found")
    assert (await idle.batch(batch["batch_id"], session="t"))["state"] == "pending"


async def test_pending_work_can_be_cancelled(idle: Inside) -> None:
    cursor = (await idle.session())["cursor"]
    batch = await idle.turn("a")
    await idle.turn("b")

    response = await idle.http.delete(f"{QUEUE}/{batch['batch_id']}")

    assert response.status_code == 200
    cancelled = response.json()
    assert (cancelled["batch_id"], cancelled["state"], cancelled["attempts"]) == (batch["batch_id"], "cancelled", 0)
    assert cancelled["applied_through"] == response.headers["sightline-applied-through"]
    assert await listed(idle) == [("b", "pending")]
    assert (await idle.batch(batch["batch_id"]))["state"] == "cancelled"
    [*_, event] = await idle.events_after(cursor)
    assert event["cursor"] == cancelled["applied_through"]
    assert (event["data"]["kind"], event["data"]["batch_ids"]) == ("cancelled", [batch["batch_id"]])


async def test_cancelled_work_never_runs(inside: Inside) -> None:
    await inside.session()
    await inside.running_turn(text="first")
    batch = await inside.turn("second")
    await inside.http.delete(f"{QUEUE}/{batch['batch_id']}")
    await inside.puppet.ends()

    await inside.finished_turn(text="third")

    assert [turn.input[0].content for turn in inside.puppet.turns] == ["first", "third"]


@pytest.mark.parametrize("state", ["claimed", "completed", "failed", "cancelled"])
async def test_what_is_taken_or_has_ended_is_not_cancelled_from_the_queue(inside: Inside, state: str) -> None:
    await inside.session()
    batch = await inside.running_turn()
    if state == "completed":
        await inside.puppet.ends()
    elif state == "failed":
        await inside.puppet.fails(RuntimeError("x"))
    elif state == "cancelled":
        await inside.http.post("/v1/sessions/s/cancel", json={"turn_id": batch["turn_id"]})
    if state != "claimed":
        await inside.ended(batch["batch_id"])

    problem = assert_problem(await inside.http.delete(f"{QUEUE}/{batch['batch_id']}"), 409, "batch_not_cancellable")

    assert problem["state"] == state
    assert (await inside.batch(batch["batch_id"]))["state"] == state
    await inside.puppet.ends()


async def test_the_end_of_a_queue_can_be_cancelled_at_once(idle: Inside) -> None:
    cursor = (await idle.session())["cursor"]
    batches = [await idle.turn(text) for text in ("a", "b", "c", "d")]
    await idle.http.delete(f"{QUEUE}/{batches[2]['batch_id']}")

    response = await idle.http.delete(f"{QUEUE}?from={batches[1]['batch_id']}")

    assert response.status_code == 200
    answer = response.json()
    assert answer.keys() == {"cancelled", "kept", "applied_through"}
    assert answer["applied_through"] == response.headers["sightline-applied-through"]
    assert [(text_of(batch), batch["state"]) for batch in answer["cancelled"]] == [
        ("b", "cancelled"),
        ("d", "cancelled"),
    ]
    assert answer["kept"] == []
    assert await listed(idle) == [("a", "pending")]
    [*_, event] = await idle.events_after(cursor)
    assert event["data"]["batch_ids"] == [batches[1]["batch_id"], batches[3]["batch_id"]]


async def test_work_that_runs_is_kept_when_the_end_of_the_queue_is_cancelled(inside: Inside) -> None:
    await inside.session()
    running = await inside.running_turn(text="runs")
    for text in ("b", "c"):
        await inside.turn(text)

    answer = (await inside.http.delete(f"{QUEUE}?from={running['batch_id']}")).json()

    assert [text_of(batch) for batch in answer["cancelled"]] == ["b", "c"]
    assert [(batch["batch_id"], batch["state"]) for batch in answer["kept"]] == [(running["batch_id"], "claimed")]
    await inside.puppet.ends()
    assert (await inside.ended(running["batch_id"]))["state"] == "completed"


async def test_the_end_of_a_queue_may_begin_at_work_that_has_ended(inside: Inside) -> None:
    await inside.session()
    done = await inside.finished_turn(text="done")
    await inside.running_turn(text="runs")
    await inside.turn("waits")

    answer = (await inside.http.delete(f"{QUEUE}?from={done['batch_id']}")).json()
    again = (await inside.http.delete(f"{QUEUE}?from={done['batch_id']}")).json()

    assert [text_of(batch) for batch in answer["cancelled"]] == ["waits"]
    assert [text_of(batch) for batch in answer["kept"]] == ["runs"]
    assert again["cancelled"] == []
    await inside.puppet.ends()


async def test_a_range_without_a_beginning_is_refused(idle: Inside) -> None:
    await idle.session()
    await idle.turn()

    for query in ("", "?from=", "?start=x"):
        problem = assert_problem(await idle.http.delete(QUEUE + query), 400, "invalid_field")
        assert any(error["field"] in ("from", "start") for error in problem["errors"])
    assert len(await listed(idle)) == 1


async def test_what_ended_stays_readable_for_the_retention_window_only() -> None:
    async with opened(limits=Limits(retention=100)) as inside:
        await inside.session()
        batch = await inside.finished_turn()

        await inside.world.clock.run_for(90)
        assert (await inside.batch(batch["batch_id"]))["state"] == "completed"

        await inside.world.clock.run_for(60)
        assert_problem(await inside.http.get(f"{QUEUE}/{batch['batch_id']}"), 404, "batch_not_found")
        assert (await inside.http.get("/v1/sessions/s")).json()["revision"] == 1
