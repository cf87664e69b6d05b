"""A store that does not answer: every route says so, says when to come back, and works once the store does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sightline.testing.clock import settled
from sightline_gateway.app import OPERATIONS
from tests.gateway.contract import assert_problem
from tests.gateway.inside import opened

pytestmark = pytest.mark.anyio

TASKS = "/v1/sessions/{session_id}/tasks"
TRANSFER = {"to_session_id": "s", "process_ids": ["p"]}
# Method, path, body, the store's method that fails, the status once it works again.
ROUTES: list[tuple[str, str, Any, str, int]] = [
    ("POST", "/v1/sessions", {}, "create_session", 201),
    ("PUT", "/v1/sessions/{session_id}", {}, "create_session", 200),
    ("GET", "/v1/sessions", None, "list_sessions", 200),
    ("GET", "/v1/sessions/{session_id}", None, "load_session", 200),
    ("GET", "/v1/sessions/{session_id}/messages", None, "page_messages", 200),
    ("DELETE", "/v1/sessions/{session_id}", None, "delete_session", 204),
    ("POST", "/v1/sessions/{session_id}/turns", {"input": "x"}, "load_session", 202),
    ("POST", "/v1/sessions/{session_id}/turns", {"input": "x"}, "enqueue", 202),
    ("POST", "/v1/sessions/{session_id}/commands", {"kind": "reset_session", "reason": "r"}, "enqueue", 202),
    ("GET", "/v1/sessions/{session_id}/attachments/{attachment_id}", None, "load_session", 404),
    ("GET", "/v1/sessions/{session_id}/queue", None, "list_batches", 200),
    ("GET", "/v1/sessions/{session_id}/queue/{batch_id}", None, "get_batch", 200),
    ("DELETE", "/v1/sessions/{session_id}/queue/{batch_id}", None, "cancel_batch", 200),
    ("DELETE", "/v1/sessions/{session_id}/queue", None, "cancel_from", 200),
    ("POST", "/v1/sessions/{session_id}/cancel", {}, "request_cancel", 200),
    ("POST", "/v1/sessions/{session_id}/answers", {"request_id": "r", "answer": 1}, "load_session", 404),
    ("POST", "/v1/sessions/{session_id}/answers", {"request_id": "r", "answer": 1}, "answer_request", 404),
    ("GET", "/v1/sessions/{session_id}/events", None, "load_session", 200),
    ("POST", "/v1/processes", {"kind": "external", "process_id": "new"}, "register_process", 201),
    ("GET", "/v1/processes", None, "list_processes", 200),
    ("GET", "/v1/processes/{process_id}", None, "get_process", 200),
    ("GET", "/v1/processes/{process_id}/events", None, "list_process_events", 200),
    ("POST", "/v1/processes/{process_id}/events", {"event_type": "progress"}, "append_event", 201),
    ("POST", "/v1/processes/{process_id}/complete", {"output": 1}, "append_event", 200),
    ("POST", "/v1/processes/{process_id}/fail", {"code": "c", "message": "m"}, "append_event", 200),
    ("POST", "/v1/processes/{process_id}/cancel", {}, "append_event", 200),
    ("POST", "/v1/processes/{process_id}/signal", {"signal_id": "1"}, "append_event", 200),
    ("GET", "/v1/processes/{process_id}/await", None, "get_process", 202),
    ("GET", "/v1/processes/{process_id}/attachments/{attachment_id}", None, "process_value", 404),
    ("GET", "/v1/sessions/{session_id}/processes", None, "list_live_handle_grants", 200),
    ("POST", "/v1/sessions/{session_id}/processes/transfer", TRANSFER, "transfer_grants", 200),
    ("POST", "/v1/sessions/{session_id}/processes/cancel_unreferenced", {"keep": []}, "cancel_unreferenced", 200),
    ("POST", "/v1/sessions/{session_id}/processes/cancel_all", {}, "append_event", 200),
    ("GET", TASKS, None, "list_tasks", 200),
    ("POST", TASKS, {"task_id": "new", "kind": "other", "producer": "ci"}, "register_task", 201),
    ("POST", f"{TASKS}/cancel_all", {}, "list_tasks", 200),
    ("POST", f"{TASKS}/cancel_unreferenced", {"keep": []}, "list_tasks", 200),
    ("POST", f"{TASKS}/transfer", {"to_session_id": "s", "task_ids": ["t"]}, "transfer_tasks", 200),
    ("POST", f"{TASKS}/validate", {"task_ids": ["t"]}, "list_tasks", 200),
    ("GET", f"{TASKS}/{{task_id}}", None, "get_task", 200),
    ("DELETE", f"{TASKS}/{{task_id}}", None, "change_task", 200),
    ("POST", f"{TASKS}/{{task_id}}/state", {"state": "completed"}, "change_task", 200),
    ("GET", "/readyz", None, "next_due", 200),
]


@pytest.mark.parametrize(("method", "path", "body", "fails", "afterwards"), ROUTES)
async def test_trouble_with_the_store_is_told_and_passes(
    method: str, path: str, body: Any, fails: str, afterwards: int
) -> None:
    async with opened(start=False) as idle:
        await idle.session()
        # Nobody looks at the session: it is let go, and has to be loaded again.
        await idle.world.clock.run_for(60)
        if "processes" in path:
            external = {"kind": "external", "process_id": "p", "session_id": "s"}
            (await idle.http.post("/v1/processes", json=external)).raise_for_status()
        if "tasks" in path:
            task = {"task_id": "t", "kind": "other", "producer": "ci"}
            (await idle.http.post("/v1/sessions/s/tasks", json=task)).raise_for_status()
        url = path.replace("{session_id}", "s").replace("{attachment_id}", "a")
        url = url.replace("{process_id}", "p").replace("{task_id}", "t")
        if "queue" in path:
            batch_id = (await idle.turn())["batch_id"]
            url = url.replace("{batch_id}", batch_id)
            url += f"?from={batch_id}" if fails == "cancel_from" else ""
        idle.world.faults.fail_before(fails)

        headers = {"Idempotency-Key": "k"} if path.endswith("/commands") else {}
        refused = await idle.http.request(method, url, json=body, headers=headers)
        answered = await idle.http.request(method, url, json=body, headers=headers)

        problem = assert_problem(refused, 503, "store_unavailable")
        assert problem["retryable"] is True
        assert int(refused.headers["retry-after"]) >= 1
        assert answered.status_code == afterwards


def test_every_route_that_names_the_trouble_is_among_them() -> None:
    named = {(op.method, op.path) for op in OPERATIONS if "store_unavailable" in op.problems}
    assert named == {(method, path) for method, path, *_ in ROUTES}


async def test_a_write_whose_answer_was_lost_can_be_sent_again_under_its_key() -> None:
    async with opened(start=False) as idle:
        await idle.session()
        idle.world.faults.fail_after("enqueue")
        lost = await idle.http.post("/v1/sessions/s/turns", json={"input": "x"}, headers={"Idempotency-Key": "k"})

        batch = await idle.turn("x", key="k")

        assert_problem(lost, 503, "store_unavailable")
        queue = (await idle.http.get("/v1/sessions/s/queue")).json()["batches"]
        assert [found["batch_id"] for found in queue] == [batch["batch_id"]]


async def test_a_creation_whose_answer_was_lost_is_found_by_put() -> None:
    async with opened(start=False) as idle:
        idle.world.faults.fail_after("create_session")
        lost = await idle.http.put("/v1/sessions/s", json={"metadata": {"n": 1}})
        found = await idle.http.put("/v1/sessions/s", json={"metadata": {"n": 1}})

        assert_problem(lost, 503, "store_unavailable")
        assert (found.status_code, found.json()["metadata"]) == (200, {"n": 1})


async def test_a_wait_that_loses_the_store_says_so_and_the_work_is_accepted() -> None:
    async with opened(start=False) as idle:
        await idle.session()
        idle.world.faults.fail_before("get_batch")
        posting = asyncio.create_task(
            idle.http.post(
                "/v1/sessions/s/turns",
                json={"input": "x"},
                headers={"Prefer": "wait=5", "Idempotency-Key": "k"},
            )
        )
        await settled()
        # Nothing came of it in time, and what became of it cannot be read.
        await idle.world.clock.run_for(5.0)

        assert_problem(await posting, 503, "store_unavailable")
        assert (await idle.turn("x", key="k"))["state"] == "pending"
