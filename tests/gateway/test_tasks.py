"""Background tasks over HTTP: listed by those who do them, seen by all, ended, handed over (wire: section 8)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sightline.kernel import Limits
from sightline.tasks.model import NewTask
from sightline.tasks.working import RunningTask
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json, opened

pytestmark = pytest.mark.anyio

TASKS = "/v1/sessions/s/tasks"


async def post(inside: Inside, task_id: str = "t", session: str = "s", **body: Any) -> httpx.Response:
    content = {"task_id": task_id, "kind": "other", "producer": "test", **body}
    return await inside.http.post(f"/v1/sessions/{session}/tasks", json=content)


async def state(inside: Inside, state: str, task_id: str = "t", **body: Any) -> Json:
    response = await inside.http.post(f"{TASKS}/{task_id}/state", json={"state": state, **body})
    answer: Json = response.raise_for_status().json()
    return answer


async def states(inside: Inside, session: str = "s") -> dict[str, str]:
    answer = (await inside.http.get(f"/v1/sessions/{session}/tasks", params={"state": "all"})).raise_for_status().json()
    return {record["task_id"]: record["state"] for record in answer["tasks"]}


async def shown(inside: Inside, session: str = "s") -> list[str]:
    return [task["task_id"] for task in (await inside.session(session))["tasks"]]


async def test_a_task_is_listed_by_whoever_does_it(idle: Inside) -> None:
    await idle.session()

    response = await post(idle, "crawl:1", kind="observer", parent_task_id="p", child_session_id="c")

    assert response.status_code == 201
    record = response.json()
    assert response.headers["location"] == f"{TASKS}/crawl:1"
    assert response.headers["sightline-applied-through"] == record.pop("applied_through")
    assert (record["state"], record["flavour"], record["kind"]) == ("running", "external", "observer")
    assert (record["parent_task_id"], record["child_session_id"]) == ("p", "c")
    assert (await idle.http.get(f"{TASKS}/crawl:1")).json() == record
    assert (await idle.http.get(TASKS)).json() == {"tasks": [record]}
    assert await shown(idle) == ["crawl:1"]


async def test_a_live_id_is_taken(idle: Inside) -> None:
    await idle.session()
    await post(idle)

    assert_problem(await post(idle), 409, "task_conflict")

    await state(idle, "completed")
    assert (await post(idle)).status_code == 201


async def test_a_session_has_so_many_live_tasks_and_no_more() -> None:
    async with opened(start=False, limits=Limits(max_tasks=1)) as idle:
        await idle.session()
        await post(idle, "a")
        response = await post(idle, "b")
        assert assert_problem(response, 429, "too_many_tasks")["retryable"] is True
        assert int(response.headers["retry-after"]) >= 1


async def test_its_owner_says_how_it_stands_and_observers_follow(idle: Inside) -> None:
    cursor = (await idle.session())["cursor"]
    await post(idle)
    waiting = await state(idle, "waiting", progress="half")
    assert (waiting["state"], waiting["progress"]) == ("waiting", "half")
    await state(idle, "running")
    ended = await state(idle, "failed", summary="boom")
    assert ended["failure"] == {"code": "task_failed", "summary": "boom"}

    assert await state(idle, "completed") | {"applied_through": ""} == ended | {"applied_through": ""}
    events = await idle.events_after(cursor)
    assert [(event["kind"], event["data"]["kind"]) for event in events] == [
        ("task_changed", kind) for kind in ("started", "progress", "waiting", "resumed", "failed")
    ]
    assert events[-1]["cursor"] == ended["applied_through"]
    assert events[2]["data"]["tasks"][0] == {
        "task_id": "t",
        "kind": "other",
        "producer": "test",
        "state": "waiting",
        "progress": "half",
        "created_at_ms": waiting["created_at_ms"],
        "updated_at_ms": waiting["updated_at_ms"],
    }
    assert (await shown(idle), await states(idle)) == ([], {"t": "failed"})


async def test_a_task_that_is_done_here_does_not_go_by_what_is_said_of_it(inside: Inside) -> None:
    async def work(task: RunningTask) -> None:
        await asyncio.Event().wait()

    await inside.session()
    await inside.world.kernel.tasks.spawn_managed("s", NewTask(task_id="t", producer="test"), work)

    response = await inside.http.post(f"{TASKS}/t/state", json={"state": "completed"})

    assert_problem(response, 409, "task_conflict")
    ended = (await inside.http.delete(f"{TASKS}/t")).json()
    assert (ended["state"], ended["cancel_reason"]) == ("cancelled", "requested by host")


async def test_what_nobody_here_can_end_is_asked_to_end(idle: Inside) -> None:
    await idle.session()
    await post(idle)

    asked = await idle.http.delete(f"{TASKS}/t")

    assert (asked.status_code, asked.json()["state"]) == (200, "cancel_requested")
    assert (await state(idle, "running"))["state"] == "cancel_requested"
    assert (await state(idle, "cancelled"))["state"] == "cancelled"
    assert (await idle.http.delete(f"{TASKS}/t")).json()["state"] == "cancelled"


async def test_what_has_ended_stays_as_it_ended(idle: Inside) -> None:
    await idle.session()
    await post(idle)
    await state(idle, "completed", summary="all of it")

    record = (await idle.http.delete(f"{TASKS}/t")).json()

    assert (record["state"], record["result"]) == ("completed", {"summary": "all of it"})


async def test_a_task_is_forgotten_whether_it_was_there_or_not(idle: Inside) -> None:
    await idle.session()
    await post(idle)

    for _ in range(2):
        response = await idle.http.delete(f"{TASKS}/t", params={"forget": "true"})
        assert (response.status_code, response.content) == (204, b"")
        assert response.headers["sightline-applied-through"]

    assert (await states(idle), await shown(idle)) == ({}, [])


async def test_all_live_tasks_are_ended_or_all_but_some(idle: Inside) -> None:
    await idle.session()
    for task_id in ("ended", "kept", "other"):
        await post(idle, task_id)
    await state(idle, "completed", "ended")

    some = (await idle.http.post(f"{TASKS}/cancel_unreferenced", json={"keep": ["kept", "x"]})).json()
    assert [(record["task_id"], record["state"]) for record in some["cancelled"]] == [("other", "cancel_requested")]
    everything = (await idle.http.post(f"{TASKS}/cancel_all")).json()

    assert [record["task_id"] for record in everything["cancelled"]] == ["kept", "other"]
    assert await states(idle) == {"ended": "completed", "kept": "cancel_requested", "other": "cancel_requested"}


async def test_tasks_are_handed_over_all_or_none(idle: Inside) -> None:
    await idle.session()
    there = (await idle.session("other"))["cursor"]
    await post(idle, "a")
    await post(idle, "b")
    for ids, code in ((["a", "x"], "handle_not_visible"), (["a", "b"], "task_conflict")):
        if code == "task_conflict":
            await post(idle, "b", "other")
        response = await idle.http.post(f"{TASKS}/transfer", json={"to_session_id": "other", "task_ids": ids})
        assert_problem(response, 409, code)
        assert await shown(idle) == ["a", "b"]

    moved = (await idle.http.post(f"{TASKS}/transfer", json={"to_session_id": "other", "task_ids": ["a"]})).json()

    assert [(record["task_id"], record["session_id"]) for record in moved["transferred"]] == [("a", "other")]
    assert (await shown(idle), await shown(idle, "other")) == (["b"], ["b", "a"])
    assert [event["data"]["kind"] for event in await idle.events_after(there, session="other")] == [
        "started",
        "granted",
    ]
    response = await idle.http.post(f"{TASKS}/transfer", json={"to_session_id": "nobody", "task_ids": ["b"]})
    assert_problem(response, 404, "session_not_found")


async def test_ids_are_live_in_a_session_or_the_first_that_is_not_is_named(idle: Inside) -> None:
    await idle.session()
    await post(idle)

    for ids in ([], ["t"]):
        response = await idle.http.post(f"{TASKS}/validate", json={"task_ids": ids})
        assert (response.status_code, response.json()) == (200, {"ok": True})
    problem = assert_problem(
        await idle.http.post(f"{TASKS}/validate", json={"task_ids": ["t", "x"]}), 409, "handle_not_visible"
    )

    assert "'x'" in problem["detail"]


async def test_where_there_is_no_task_or_no_session_none_is_found(idle: Inside) -> None:
    await idle.session()
    for method, path in (("GET", "/x"), ("DELETE", "/x"), ("POST", "/x/state")):
        body = {"state": "running"} if method == "POST" else None
        assert_problem(await idle.http.request(method, f"{TASKS}{path}", json=body), 404, "task_not_found")
    requests: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("POST", "", {"task_id": "t", "kind": "other", "producer": "test"}),
        ("GET", "/x", None),
        ("DELETE", "/x", None),
        ("DELETE", "/x?forget=true", None),
        ("POST", "/x/state", {"state": "running"}),
        ("POST", "/cancel_all", None),
        ("POST", "/cancel_unreferenced", {"keep": []}),
        ("POST", "/transfer", {"to_session_id": "s", "task_ids": ["x"]}),
        ("POST", "/validate", {"task_ids": ["x"]}),
    ]
    for method, path, content in requests:
        response = await idle.http.request(method, f"/v1/sessions/nobody/tasks{path}", json=content)
        assert_problem(response, 404, "session_not_found")
    await idle.http.delete("/v1/sessions/s")
    assert_problem(await idle.http.get(TASKS), 410, "session_deleted")


@pytest.mark.parametrize(
    ("path", "body", "fields"),
    [
        ("", {}, {"task_id", "kind", "producer"}),
        ("", {"task_id": "", "kind": "dream", "producer": ""}, {"task_id", "kind", "producer"}),
        ("", {"task_id": "a/b", "kind": "other", "producer": " "}, {"task_id", "producer"}),
        ("", {"task_id": "x" * 201, "kind": "other", "producer": "x" * 257}, {"task_id", "producer"}),
        (
            "",
            {"task_id": 1, "kind": "other", "producer": "p", "parent_task_id": "", "child_session_id": "a b"},
            {"task_id", "parent_task_id", "child_session_id"},
        ),
        ("", {"task_id": "t", "kind": "other", "producer": "p", "stat": "running"}, {"stat"}),
        ("", {"task_id": "t", "kind": "other", "producer": "p", "parent_task_id": "t"}, {"parent_task_id"}),
        ("/t/state", {}, {"state"}),
        ("/t/state", {"state": "cancel_requested"}, {"state"}),
        ("/t/state", {"state": "running", "progress": "x" * 2001, "summary": 1}, {"progress", "summary"}),
        ("/t/state", {"state": "running", "message": "x"}, {"message"}),
        ("/transfer", {"to_session_id": "a b", "task_ids": "x"}, {"to_session_id", "task_ids"}),
        ("/transfer", {"task_ids": []}, {"to_session_id"}),
        ("/cancel_unreferenced", {}, {"keep"}),
        ("/cancel_unreferenced", {"keep": [1]}, {"keep[0]"}),
        ("/validate", {"task_ids": [""], "all": True}, {"task_ids[0]", "all"}),
    ],
)
async def test_what_makes_no_sense_is_refused_by_name(idle: Inside, path: str, body: Json, fields: set[str]) -> None:
    await idle.session()

    problem = assert_problem(await idle.http.post(f"{TASKS}{path}", json=body), 400, "invalid_field")

    assert {error["field"] for error in problem["errors"]} == fields
    assert await states(idle) == {}


async def test_a_list_is_of_what_is_live_unless_more_is_asked_for(idle: Inside) -> None:
    await idle.session()
    for task_id in ("a", "b"):
        await post(idle, task_id)
    await state(idle, "completed", "a")

    first = await idle.http.get(TASKS)
    assert [record["task_id"] for record in first.json()["tasks"]] == ["b"]
    assert (await idle.http.get(TASKS, headers={"If-None-Match": first.headers["etag"]})).status_code == 304
    assert await states(idle) == {"a": "completed", "b": "running"}
    problem = assert_problem(await idle.http.get(TASKS, params={"state": "dead"}), 400, "invalid_field")
    assert problem["field"] == "state"
    assert_problem(await idle.http.delete(f"{TASKS}/b", params={"forget": "yes"}), 400, "invalid_field")


async def test_what_needs_no_body_takes_none_that_says_something(idle: Inside) -> None:
    await idle.session()
    await post(idle)

    response = await idle.http.post(f"{TASKS}/cancel_all", json={"reason": "enough", "keep": []})
    problem = assert_problem(response, 400, "invalid_field")
    assert {error["field"] for error in problem["errors"]} == {"reason", "keep"}
    assert await states(idle) == {"t": "running"}
    assert (await idle.http.post(f"{TASKS}/cancel_all", json={})).status_code == 200
    assert await states(idle) == {"t": "cancel_requested"}
