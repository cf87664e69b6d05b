"""Session commands over HTTP: a receipt, their place in the queue, and what came of them (wire: section 4)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json

pytestmark = pytest.mark.anyio

RESET: Json = {"kind": "reset_session", "reason": "start over"}
REFRESH: Json = {"kind": "refresh_tool_surface", "reason": "new tools"}


async def command(inside: Inside, body: Any, key: str | None = "k", **headers: str) -> httpx.Response:
    if key is not None:
        headers["Idempotency-Key"] = key
    return await inside.http.post("/v1/sessions/s/commands", json=body, headers=headers)


async def test_a_command_is_answered_with_a_receipt(idle: Inside) -> None:
    await idle.session()

    response = await command(idle, RESET)

    assert response.status_code == 202
    receipt = response.json()
    assert receipt.keys() == {"session_id", "batch_id", "source_key", "applied_through"}
    assert (receipt["session_id"], receipt["source_key"]) == ("s", "command:reset_session:k")
    assert response.headers["location"] == f"/v1/sessions/s/queue/{receipt['batch_id']}"
    assert response.headers["sightline-applied-through"] == receipt["applied_through"]
    [summary] = (await idle.http.get("/v1/sessions/s")).json()["queue"]
    assert (summary["kind"], summary["preview"], summary["state"]) == ("session_command", "start over", "pending")


async def test_a_command_needs_a_key(idle: Inside) -> None:
    await idle.session()

    problem = assert_problem(await command(idle, RESET, None), 400, "idempotency_key_required")

    assert problem["field"] == "Idempotency-Key"


async def test_the_same_key_again_is_the_same_command(inside: Inside) -> None:
    await inside.session()
    first = await command(inside, RESET, Prefer="wait=5")

    again = await command(inside, RESET)

    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json()["batch_id"] == first.json()["batch_id"]
    assert_problem(await command(inside, {**RESET, "reason": "other"}), 422, "idempotency_key_reused")


async def test_one_key_may_name_a_turn_and_a_command_of_each_kind(idle: Inside) -> None:
    await idle.session()
    batches = {
        (await idle.turn(key="k"))["batch_id"],
        (await command(idle, RESET)).json()["batch_id"],
        (await command(idle, REFRESH)).json()["batch_id"],
    }
    assert len(batches) == 3


async def test_who_prefers_to_wait_hears_when_the_command_was_carried_out(inside: Inside) -> None:
    await inside.session()
    await inside.finished_turn()

    response = await command(inside, RESET, Prefer="wait=5")

    assert (response.status_code, response.headers["preference-applied"]) == (200, "wait=5")
    assert (await inside.batch(response.json()["batch_id"]))["state"] == "completed"
    view = (await inside.http.get("/v1/sessions/s")).json()
    assert (view["read_view"]["messages"], view["revision"]) == ([], 2)


async def test_a_command_that_cannot_be_done_says_why_in_its_batch(inside: Inside) -> None:
    await inside.session()

    response = await command(inside, {**REFRESH, "expected_generation": 9}, Prefer="wait=5")

    batch = await inside.batch(response.json()["batch_id"])
    assert batch["state"] == "failed"
    assert batch["error"]["code"] == "session_command_generation_mismatch"
    assert batch["items"][0]["payload"]["command"] == {**REFRESH, "expected_generation": 9}
    await inside.finished_turn("still works")


async def test_a_pending_command_can_be_cancelled_like_any_work(idle: Inside) -> None:
    await idle.session()
    batch_id = (await command(idle, RESET)).json()["batch_id"]

    cancelled = await idle.http.delete(f"/v1/sessions/s/queue/{batch_id}")

    assert cancelled.json()["state"] == "cancelled"


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["kind", "reason"]),
        ({"kind": "reset", "reason": "r"}, ["kind"]),
        ({"kind": "reset_session"}, ["reason"]),
        ({"kind": "reset_session", "reason": 5}, ["reason"]),
        ({"kind": "reset_session", "reason": "r" * 1_001}, ["reason"]),
        ({"kind": "reset_session", "reason": "r", "expected_generation": 1}, ["expected_generation"]),
        ({"kind": "refresh_tool_surface", "reason": "r", "expected_generation": -1}, ["expected_generation"]),
        ({"kind": "refresh_tool_surface", "reason": "r", "expected_generation": 2**63}, ["expected_generation"]),
        ({"kind": "refresh_tool_surface", "reason": "r", "generation": 1}, ["generation"]),
    ],
)
async def test_what_is_no_command_is_refused_by_field(idle: Inside, body: Json, fields: list[str]) -> None:
    await idle.session()

    response = await command(idle, body)

    if body.get("expected_generation") == 2**63:
        assert_problem(response, 400, "malformed_json")
        return
    problem = assert_problem(response, 400, "invalid_field")
    assert problem["field"] == fields[0]
    assert [error["field"] for error in problem.get("errors", [{"field": problem["field"]}])] == fields


async def test_a_command_for_nobody_is_not_found(idle: Inside) -> None:
    assert_problem(await command(idle, RESET), 404, "session_not_found")
