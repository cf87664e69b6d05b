"""The processes that sessions see, over HTTP: shown, handed over, ended, in step with what is watched."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sightline.process.model import ProcessScope
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json

pytestmark = pytest.mark.anyio


async def register(inside: Inside, *names: str, session: str = "s") -> None:
    for name in names:
        body = {"kind": "external", "process_id": name, "session_id": session, "descriptor": {"label": f"the {name}"}}
        (await inside.http.post("/v1/processes", json=body)).raise_for_status()


async def ask(inside: Inside, verb: str, body: Any, *, session: str = "s") -> httpx.Response:
    return await inside.http.post(f"/v1/sessions/{session}/processes/{verb}", json=body)


async def seen(inside: Inside, session: str = "s", state: str = "live") -> list[str]:
    answer = await inside.http.get(f"/v1/sessions/{session}/processes", params={"state": state})
    return [summary["id"] for summary in answer.raise_for_status().json()["processes"]]


def words(events: list[Json]) -> list[str]:
    return [event["data"]["kind"] for event in events if event["kind"] == "process_changed"]


async def cursor_of(inside: Inside, session: str = "s") -> str:
    cursor: str = (await inside.http.get(f"/v1/sessions/{session}")).json()["cursor"]
    return cursor


async def test_a_session_shows_what_it_sees_and_on_demand_what_has_ended(idle: Inside) -> None:
    await idle.session()
    await register(idle, "b", "a")
    await idle.http.post("/v1/processes/a/complete", json={"output": 1})
    await idle.world.kernel.processes.shown_through("s", ["a"])

    assert (await seen(idle), await seen(idle, state="all")) == (["b"], ["a", "b"])
    [summary] = (await idle.http.get("/v1/sessions/s")).json()["processes"]
    [listed] = (await idle.http.get("/v1/sessions/s/processes")).json()["processes"]
    assert listed == summary
    assert_problem(await idle.http.get("/v1/sessions/s/processes?state=dead"), 400, "invalid_field")
    assert_problem(await idle.http.get("/v1/sessions/nobody/processes"), 404, "session_not_found")


async def test_processes_are_handed_over_and_the_cursor_says_that_it_shows(idle: Inside) -> None:
    await idle.session()
    await idle.session("t")
    await register(idle, "a", "b", "c")
    here, there = await cursor_of(idle), await cursor_of(idle, "t")

    response = await ask(idle, "transfer", {"to_session_id": "t", "process_ids": ["b", "a"]})

    answer = response.raise_for_status().json()
    assert [(each["id"], each["label"]) for each in answer["processes"]] == [("a", "the a"), ("b", "the b")]
    events = await idle.events_after(here)
    assert words(events) == ["revoked", "revoked"]
    assert events[-1]["cursor"] == answer["applied_through"] == response.headers["sightline-applied-through"]
    assert words(await idle.events_after(there, session="t")) == ["granted", "granted"]
    assert (await seen(idle), await seen(idle, "t")) == (["c"], ["a", "b"])


async def test_of_a_transfer_all_is_done_or_nothing(idle: Inside) -> None:
    await idle.session()
    await idle.session("t")
    await register(idle, "a")
    here = await cursor_of(idle)
    for wrong in ("b", "a/frame:f"):
        body = {"to_session_id": "t", "process_ids": ["a", wrong]}
        assert_problem(await ask(idle, "transfer", body), 409, "handle_not_granted")
    assert_problem(
        await ask(idle, "transfer", {"to_session_id": "nobody", "process_ids": ["a"]}), 404, "session_not_found"
    )
    assert_problem(
        await ask(idle, "transfer", {"to_session_id": "t", "process_ids": []}, session="nobody"),
        404,
        "session_not_found",
    )
    nothing = await ask(idle, "transfer", {"to_session_id": "t", "process_ids": []})

    assert (nothing.status_code, nothing.json()["processes"]) == (200, [])
    assert (await seen(idle), await seen(idle, "t")) == (["a"], [])
    assert await idle.events_after(here) == []


async def test_what_a_frame_sees_is_handed_over_by_its_name(idle: Inside) -> None:
    frame = (await idle.session())["read_view"]["agent_frame_id"]
    await idle.session("t")
    body = {"kind": "external", "process_id": "a", "session_id": "s", "agent_frame_id": frame}
    (await idle.http.post("/v1/processes", json=body)).raise_for_status()
    give = {"to_session_id": "t", "process_ids": ["a"]}

    assert await seen(idle) == ["a"]
    assert_problem(await ask(idle, "transfer", give), 409, "handle_not_granted")
    assert (await ask(idle, "transfer", {**give, "agent_frame_id": frame})).status_code == 200
    assert (await seen(idle), await seen(idle, "t")) == ([], ["a"])


async def test_all_of_a_sessions_processes_are_asked_to_end(idle: Inside) -> None:
    await idle.session()
    await register(idle, "a", "b", "c")
    await idle.http.post("/v1/processes/c/complete", json={"output": 1})
    await idle.world.kernel.processes.shown_through("s", ["c"])
    here = await cursor_of(idle)

    answer = (await ask(idle, "cancel_all", None)).raise_for_status().json()

    assert answer["cancelled"] == [{"process_id": "a", "status": "running"}, {"process_id": "b", "status": "running"}]
    events = await idle.events_after(here)
    assert words(events) == ["cancel_requested", "cancel_requested"]
    assert events[-1]["cursor"] == answer["applied_through"]
    again = (await ask(idle, "cancel_all", {})).json()
    assert len(again["cancelled"]) == 2
    assert await idle.events_after(answer["applied_through"]) == []


async def test_what_a_session_does_not_keep_ends_where_nobody_else_sees_it(idle: Inside) -> None:
    await idle.session()
    await idle.session("t")
    await register(idle, "a", "b", "c")
    await idle.world.kernel.processes.grant("b", ProcessScope("t"), {})
    here = await cursor_of(idle)

    answer = (await ask(idle, "cancel_unreferenced", {"keep": ["c"]})).raise_for_status().json()

    assert (answer["revoked"], answer["cancelled"], answer["preserved"]) == (["a", "b"], ["a"], ["b"])
    events = await idle.events_after(here)
    assert set(words(events)) == {"revoked"}
    assert events[-1]["cursor"] == answer["applied_through"]
    assert (await seen(idle), await seen(idle, "t")) == (["c"], ["b"])
    assert (await idle.http.get("/v1/processes/a")).json()["cancel_requested"] is True
    assert (await ask(idle, "cancel_unreferenced", {"keep": ["c"]})).json()["revoked"] == []


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("transfer", {"process_ids": []}, "to_session_id"),
        ("transfer", {"to_session_id": "t"}, "process_ids"),
        ("transfer", {"to_session_id": "t", "process_ids": [7]}, "process_ids[0]"),
        ("transfer", {"to_session_id": "t", "process_ids": [], "to": 1}, "to"),
        ("cancel_unreferenced", {}, "keep"),
        ("cancel_unreferenced", {"keep": "a"}, "keep"),
        ("cancel_all", {"all": True}, "all"),
    ],
)
async def test_a_wish_that_cannot_be_is_refused(idle: Inside, verb: str, body: Json, field: str) -> None:
    await idle.session()

    problem = assert_problem(await ask(idle, verb, body), 400, "invalid_field")

    assert problem["field"] == field
