"""Processes over HTTP: registered, looked at, reported on from elsewhere, ended once, awaited (wire: section 8)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from sightline.process.functions import Functions, RunningProcess
from sightline.process.kinds import FUNCTION
from sightline.testing.clock import settled
from tests.gateway.contract import assert_problem, validator
from tests.gateway.inside import Inside, Json, opened

pytestmark = pytest.mark.anyio

EXTERNAL: Json = {"kind": "external", "process_id": "p"}
WAKES: Json = {"wake": {"input": {"type": "pointer", "pointer": "/text"}}}
REPORT: Json = {
    "name": "report",
    "schema": {"type": "object", "required": ["text"], "properties": {"text": {"type": "string"}}},
    "semantics": WAKES,
}


async def post(inside: Inside, path: str, body: Any) -> httpx.Response:
    return await inside.http.post(f"/v1/processes{path}", json=body)


async def registered(inside: Inside, **body: Any) -> Json:
    record: Json = (await post(inside, "", {**EXTERNAL, **body})).raise_for_status().json()
    return record


async def shown(inside: Inside, session: str = "s") -> list[Json]:
    await inside.world.kernel.processes.shown_through(session, ["p"])
    view: Json = (await inside.http.get(f"/v1/sessions/{session}")).json()
    processes: list[Json] = view["processes"]
    return processes


# Registering


async def test_a_process_is_registered_and_its_session_sees_it(idle: Inside) -> None:
    await idle.session()

    response = await post(
        idle, "", {**EXTERNAL, "session_id": "s", "descriptor": {"label": "print"}, "input": {"n": 1}}
    )

    assert response.status_code == 201
    assert response.headers["location"] == "/v1/processes/p"
    assert response.headers["sightline-applied-through"] == (await idle.http.get("/v1/sessions/s")).json()["cursor"]
    record = response.json()
    assert (record["status"], record["disposition"], record["input"]) == ("running", "externally_owned", {"n": 1})
    assert record["provenance"]["owner_scope"] == {"session_id": "s", "agent_frame_id": ""}
    [summary] = await shown(idle)
    assert (summary["id"], summary["kind"], summary["label"]) == ("p", "external", "print")
    assert (await idle.http.get("/v1/processes/p")).json() == record


async def test_the_same_registration_again_is_the_same_process(idle: Inside) -> None:
    record = await registered(idle, input={"n": 1})

    again = await post(idle, "", {**EXTERNAL, "input": {"n": 1}})

    assert (again.status_code, again.json()) == (200, record)
    assert_problem(await post(idle, "", {**EXTERNAL, "input": {"n": 2}}), 409, "process_conflict")


async def test_without_an_id_one_is_made(idle: Inside) -> None:
    first, second = [(await post(idle, "", {"kind": "external"})).json()["process_id"] for _ in range(2)]

    assert first != second
    assert (await idle.http.get(f"/v1/processes/{first}")).status_code == 200


@pytest.mark.parametrize(
    ("body", "disposition"),
    [
        ({"kind": "external"}, "externally_owned"),
        ({"kind": "function", "input": {"name": "count"}}, "rerunnable"),
        ({"kind": "session_turn", "input": {"input": "look"}}, "rerunnable"),
        ({"kind": "command", "input": {"argv": ["true"]}}, "owner_bound"),
        ({"kind": "command", "input": {"argv": ["true"]}, "disposition": "rerunnable"}, "rerunnable"),
    ],
)
async def test_what_becomes_of_it_follows_from_its_kind_unless_it_is_said(body: Json, disposition: str) -> None:
    async with opened(start=False, allow_commands=True) as idle:
        response = await post(idle, "", body)

        assert (response.status_code, response.json()["disposition"]) == (201, disposition)


async def test_a_command_is_refused_unless_it_is_allowed(idle: Inside) -> None:
    problem = assert_problem(await post(idle, "", {"kind": "command", "input": {"argv": ["true"]}}), 403, "forbidden")

    assert problem["field"] == "kind"
    assert "--allow-commands" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "kind"),
        ({"kind": "prayer"}, "kind"),
        ({"kind": "external", "sesion_id": "s"}, "sesion_id"),
        ({"kind": "external", "process_id": "a b"}, "process_id"),
        ({"kind": "external", "process_id": "a/b"}, "process_id"),
        ({"kind": "external", "process_id": ""}, "process_id"),
        ({"kind": "external", "process_id": "x" * 201}, "process_id"),
        ({"kind": "external", "input": []}, "input"),
        ({"kind": "external", "disposition": "rerunnable"}, "disposition"),
        ({"kind": "external", "disposition": "eternal"}, "disposition"),
        ({"kind": "external", "descriptor": {}}, "descriptor"),
        ({"kind": "external", "agent_frame_id": "f"}, "agent_frame_id"),
        ({"kind": "external", "wake": {}}, "wake.target_session_id"),
        ({"kind": "external", "wake": {"target_session_id": "s", "x": 1}}, "wake.x"),
        ({"kind": "function", "disposition": "externally_owned", "input": {"name": "f"}}, "disposition"),
        ({"kind": "function", "input": {}}, "input"),
        ({"kind": "function", "input": {"name": 7}}, "input.name"),
        ({"kind": "function", "input": {"name": "f", "argv": []}}, "input.argv"),
        ({"kind": "function", "input": {"name": "f", "args": []}}, "input.args"),
        ({"kind": "session_turn", "input": {"input": "look", "session_id": "a/b"}}, "input.session_id"),
        ({"kind": "command", "input": {"argv": []}}, "input.argv"),
        ({"kind": "command", "input": {"argv": ["a", 1]}}, "input.argv[1]"),
        ({"kind": "external", "event_types": {}}, "event_types"),
        ({"kind": "external", "event_types": [{}]}, "event_types[0].name"),
        ({"kind": "external", "event_types": [{"name": " "}]}, "event_types[0].name"),
        ({"kind": "external", "event_types": [{"name": "a"}, {"name": "a"}]}, "event_types[1].name"),
        ({"kind": "external", "event_types": [{"name": "a", "shema": {}}]}, "event_types[0].shema"),
        (
            {"kind": "external", "event_types": [{"name": "a", "schema": {"type": "text"}}]},
            "event_types[0].schema.type",
        ),
        (
            {"kind": "external", "event_types": [{"name": "a", "schema": {"properties": {"x": {"pattern": "."}}}}]},
            "event_types[0].schema.properties.x.pattern",
        ),
        (
            {"kind": "external", "event_types": [{"name": "a", "semantics": {"wake": {}}}]},
            "event_types[0].semantics.wake.input",
        ),
        (
            {"kind": "external", "event_types": [{"name": "a", "semantics": {"wake": {"input": {"type": "point"}}}}]},
            "event_types[0].semantics.wake.input.type",
        ),
        (
            {
                "kind": "external",
                "session_id": "s",
                "event_types": [
                    {"name": "a", "semantics": {"wake": {"input": {"type": "pointer", "pointer": "no slash"}}}}
                ],
            },
            "event_types[0].semantics.wake.input.pointer",
        ),
        ({"kind": "external", "event_types": [{"name": "a", "semantics": WAKES}]}, "wake"),
        (
            {"kind": "external", "event_types": [{"name": "a", "semantics": {"terminal": {"state": "failed"}}}]},
            "event_types[0].semantics.terminal.output",
        ),
    ],
)
async def test_a_registration_that_cannot_be_is_refused_by_the_name_of_its_field(body: Json, field: str) -> None:
    async with opened(start=False, allow_commands=True) as idle:
        await idle.session()

        problem = assert_problem(await post(idle, "", body), 400, "invalid_field")

        assert problem["field"] == field
        assert (await idle.http.get("/v1/processes")).json()["processes"] == []


async def test_everything_that_is_wrong_with_the_shape_is_said_at_once(idle: Inside) -> None:
    body = {"kind": "external", "process_id": 7, "event_types": [{"nme": "a"}], "wake": {}}

    problem = assert_problem(await post(idle, "", body), 400, "invalid_field")

    assert {error["field"] for error in problem["errors"]} == {
        *("process_id", "event_types[0].nme", "event_types[0].name", "wake.target_session_id")
    }


async def test_it_cannot_be_seen_by_a_session_that_is_not_there(idle: Inside) -> None:
    assert_problem(await post(idle, "", {**EXTERNAL, "session_id": "nobody"}), 404, "session_not_found")
    await idle.session()
    await idle.http.delete("/v1/sessions/s")
    assert_problem(await post(idle, "", {**EXTERNAL, "session_id": "s"}), 410, "session_deleted")
    assert_problem(await idle.http.get("/v1/processes/p"), 404, "process_not_found")


async def test_a_server_that_drains_takes_no_new_process_and_every_report(idle: Inside) -> None:
    await registered(idle)
    await idle.world.kernel.drain(0)

    assert_problem(await post(idle, "", {"kind": "external"}), 503, "draining")
    assert (await post(idle, "/p/events", {"event_type": "progress"})).status_code == 201
    assert (await post(idle, "/p/complete", {"output": 1})).json()["status"] == "completed"


async def test_a_function_that_is_not_registered_here_is_refused(inside: Inside) -> None:
    problem = assert_problem(
        await post(inside, "", {"kind": "function", "input": {"name": "conut"}}), 400, "invalid_field"
    )

    assert problem["field"] == "input.name"
    assert "conut" in problem["detail"]


async def test_a_registration_that_was_accepted_is_answered_again_whatever_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    functions = Functions()

    @functions.process("for_ever")
    async def for_ever(process: RunningProcess) -> None:
        await process.signal()

    async with opened(functions=functions) as inside:
        await inside.session("s")
        await inside.session("t")
        body: Json = {"kind": "function", "process_id": "p", "input": {"name": "for_ever"}, "session_id": "s"}
        body["wake"] = {"target_session_id": "t"}
        assert (await post(inside, "", body)).status_code == 201
        monkeypatch.setattr(functions, "get", lambda name: None)
        await inside.http.delete("/v1/sessions/t")

        assert (await post(inside, "", body)).status_code == 200
        assert_problem(await post(inside, "", {**body, "process_id": "q"}), 400, "invalid_field")


async def test_a_wake_is_for_a_session_that_is_there(idle: Inside) -> None:
    nobody = {"target_session_id": "nobody"}
    assert_problem(await post(idle, "", {**EXTERNAL, "wake": nobody}), 404, "session_not_found")
    assert (await idle.http.get("/v1/processes")).json()["processes"] == []


async def test_where_no_function_is_run_every_name_is_taken(idle: Inside) -> None:
    assert (await post(idle, "", {"kind": "function", "input": {"name": "conut"}})).status_code == 201


async def test_a_function_is_run_and_awaited() -> None:
    functions = Functions()

    @functions.process("add")
    async def add(process: RunningProcess, a: int, b: int) -> int:
        await process.progress({"done": 1})
        return a + b + int(await process.signal())

    async with opened(functions=functions) as inside:
        await inside.session()
        body = {
            "kind": FUNCTION,
            "process_id": "p",
            "input": {"name": "add", "args": {"a": 1, "b": 2}},
            "session_id": "s",
        }
        assert (await post(inside, "", body)).status_code == 201
        await settled()
        [summary] = await shown(inside)
        assert (summary["label"], summary["progress"]) == ("add", {"done": 1})
        assert (await inside.http.get("/v1/processes/p/await")).status_code == 202
        waiting = asyncio.create_task(inside.http.get("/v1/processes/p/await", params={"wait": 30}))
        await settled()
        assert (await post(inside, "/p/signal", {"signal_id": "1", "payload": 3})).status_code == 200
        assert (await waiting).json() == {"status": "completed", "output": {"type": "success", "value": 6}}
        assert (await post(inside, "/p/complete", {"output": 6})).status_code == 200
        assert_problem(await post(inside, "/p/complete", {"output": 7}), 409, "process_terminal")


async def test_what_is_run_here_is_not_ended_from_elsewhere(idle: Inside) -> None:
    await post(idle, "", {"kind": "function", "process_id": "f", "input": {"name": "count"}})

    assert_problem(await post(idle, "/f/complete", {"output": 1}), 409, "process_conflict")
    assert_problem(await post(idle, "/f/fail", {"code": "c", "message": "m"}), 409, "process_conflict")
    assert (await post(idle, "/f/cancel", {})).json()["status"] == "running"


# Looking


async def test_processes_are_listed_page_by_page(idle: Inside) -> None:
    for name in ("a", "b", "c"):
        await registered(idle, process_id=name)
    await post(idle, "/b/complete", {"output": 1})

    page = (await idle.http.get("/v1/processes", params={"limit": 2})).json()
    rest = (await idle.http.get("/v1/processes", params={"limit": 2, "after": page["next"]})).json()
    ended = (await idle.http.get("/v1/processes", params={"status": "completed", "kind": "external"})).json()

    assert [record["process_id"] for record in (*page["processes"], *rest["processes"])] == ["c", "b", "a"]
    assert rest["next"] is None
    assert [record["process_id"] for record in ended["processes"]] == ["b"]
    assert (await idle.http.get("/v1/processes", params={"kind": "function"})).json()["processes"] == []


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=1001", "after=x", "status=done", "kind=", "session=s", "limit=2&limit=3"]
)
async def test_a_list_is_asked_for_rightly(idle: Inside, query: str) -> None:
    assert_problem(await idle.http.get(f"/v1/processes?{query}"), 400, "invalid_field")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("GET", "/events", None),
        ("GET", "/await?wait=1", None),
        ("POST", "/events", {"event_type": "progress"}),
        ("POST", "/complete", {"output": 1}),
        ("POST", "/fail", {"code": "c", "message": "m"}),
        ("POST", "/cancel", {}),
        ("POST", "/signal", {"signal_id": "1"}),
    ],
)
async def test_a_process_that_is_not_there_is_said_so(idle: Inside, method: str, path: str, body: Any) -> None:
    assert_problem(await idle.http.request(method, f"/v1/processes/nobody{path}", json=body), 404, "process_not_found")
    assert_problem(await idle.http.request(method, f"/v1/processes/no%20body{path}", json=body), 400, "invalid_field")


# Reporting


async def test_events_are_reported_once_under_their_key(idle: Inside) -> None:
    await registered(idle)
    event = {"event_type": "progress", "payload": {"done": 1}, "replay_key": "1"}

    first, again = [await post(idle, "/p/events", event) for _ in range(2)]

    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()
    assert first.json()["sequence"] == 1
    assert first.json()["cancel_requested"] is False
    assert_problem(await post(idle, "/p/events", {**event, "payload": 2}), 409, "process_conflict")
    assert [each["payload"] for each in await log(idle)] == [{"done": 1}]


async def log(inside: Inside, **query: Any) -> list[Json]:
    events: list[Json] = (await inside.http.get("/v1/processes/p/events", params=query)).json()["events"]
    return events


@pytest.mark.parametrize(
    ("event", "field", "pointer"),
    [
        ({"event_type": "sung"}, "event_type", None),
        ({"event_type": ""}, "event_type", None),
        ({"event": "report"}, "event", None),
        ({"event_type": "report", "payload": {"text": 7}}, "payload", "/text"),
        ({"event_type": "report", "payload": 7}, "payload", ""),
        ({"event_type": "report", "payload": {}}, "payload", ""),
        ({"event_type": "process.completed", "payload": {"await_output": 1}}, "replay_key", None),
        ({"event_type": "process.abandoned", "payload": {}}, "event_type", None),
        ({"event_type": "report", "payload": {"text": "x"}, "replay_key": ""}, "replay_key", None),
    ],
)
async def test_an_event_that_cannot_be_is_refused_with_its_place(
    idle: Inside, event: Json, field: str, pointer: str | None
) -> None:
    await idle.session()
    await registered(idle, session_id="s", event_types=[REPORT])

    problem = assert_problem(await post(idle, "/p/events", event), 400, "invalid_field")

    assert (problem["field"], problem.get("pointer")) == (field, pointer)
    assert await log(idle) == []


async def test_who_reports_learns_that_the_end_is_wanted_and_says_that_it_was_heeded(idle: Inside) -> None:
    await idle.session()
    await registered(idle, session_id="s")
    asked = await post(idle, "/p/cancel", {"reason": "enough"})
    assert (asked.json()["status"], asked.json()["cancel_requested"]) == ("running", True)
    assert (await shown(idle))[0]["cancel_requested"] is True

    told = await post(idle, "/p/events", {"event_type": "progress"})
    output = {"type": "cancelled", "message": "enough"}
    end = {"event_type": "process.cancelled", "payload": {"await_output": output}, "replay_key": "end"}
    ended = await post(idle, "/p/events", end)

    assert told.json()["cancel_requested"] is True
    assert (ended.json()["status"], ended.json()["output"]) == ("cancelled", output)
    assert await shown(idle) == []
    late = await post(idle, "/p/cancel", {"reason": "really"})
    assert (late.status_code, late.json()["status"]) == (200, "cancelled")
    nothing = {"event_type": "process.cancel_requested", "payload": {"reason": "r"}, "replay_key": "r"}
    assert (await post(idle, "/p/events", nothing)).json() == {"status": "cancelled", "cancel_requested": True}
    assert_problem(await post(idle, "/p/signal", {"signal_id": "1"}), 409, "process_terminal")


@pytest.mark.parametrize(
    ("verb", "body", "others"),
    [
        (
            "complete",
            {"output": {"n": 1}},
            [("complete", {"output": {"n": 2}}), ("fail", {"code": "c", "message": "m"})],
        ),
        ("complete", {"output": None}, [("complete", {"output": 0})]),
        ("fail", {"code": "c", "message": "m"}, [("fail", {"code": "c", "message": "n"}), ("complete", {"output": 1})]),
    ],
)
async def test_a_process_has_one_end_and_hears_it_twice(
    idle: Inside, verb: str, body: Json, others: list[tuple[str, Json]]
) -> None:
    await registered(idle)

    first, again = [await post(idle, f"/p/{verb}", body) for _ in range(2)]

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    for other, other_body in others:
        problem = assert_problem(await post(idle, f"/p/{other}", other_body), 409, "process_terminal")
        assert problem["state"] == first.json()["status"]
    assert (await idle.http.get("/v1/processes/p")).json() == first.json()


@pytest.mark.parametrize(
    ("verb", "body", "field"),
    [
        ("complete", {}, "output"),
        ("complete", {"value": 1}, "value"),
        ("fail", {"code": "", "message": "m"}, "code"),
        ("fail", {"code": "c"}, "message"),
        ("cancel", {"why": "x"}, "why"),
        ("cancel", {"reason": "x" * 1_001}, "reason"),
        ("signal", {"payload": 1}, "signal_id"),
        ("signal", {"signal_id": " "}, "signal_id"),
    ],
)
async def test_a_word_that_cannot_be_is_refused(idle: Inside, verb: str, body: Json, field: str) -> None:
    await registered(idle)

    problem = assert_problem(await post(idle, f"/p/{verb}", body), 400, "invalid_field")

    assert field in {error["field"] for error in problem["errors"]}
    assert await log(idle) == []


async def test_an_output_that_is_too_large_is_refused_and_the_process_goes_on() -> None:
    async with opened(start=False, max_body=4_000_000) as idle:
        await registered(idle)

        problem = assert_problem(await post(idle, "/p/complete", {"output": "x" * (1 << 20)}), 400, "invalid_field")

        assert (problem["field"], problem["detail"]) == ("output", "output: has 1048578 bytes; 1048576 is the limit")
        assert (await idle.http.get("/v1/processes/p")).json()["status"] == "running"


async def test_a_report_wakes_the_session_once(inside: Inside) -> None:
    await inside.session()
    await registered(inside, session_id="s", event_types=[REPORT])
    event = {"event_type": "report", "payload": {"text": "look"}, "replay_key": "1"}

    for _ in range(2):
        await post(inside, "/p/events", event)
    async with asyncio.timeout(10):
        while not inside.puppet.turns:
            await settled()
    await inside.puppet.ends()

    assert [turn.causes[0].text for turn in inside.puppet.turns] == ["Process p reported report (event 1): look"]


async def test_a_wake_may_be_for_another_session(inside: Inside) -> None:
    await inside.session()
    await inside.session("t")
    await registered(inside, session_id="s", wake={"target_session_id": "t"})

    await post(inside, "/p/events", {"event_type": "process.wake", "payload": {"text": "look"}})
    async with asyncio.timeout(10):
        while not inside.puppet.turns:
            await settled()
    await inside.puppet.ends()

    assert [turn.session_id for turn in inside.puppet.turns] == ["t"]


# Waiting


async def test_an_end_is_waited_for_at_most_so_long(idle: Inside) -> None:
    await registered(idle)
    waiting = asyncio.create_task(idle.http.get("/v1/processes/p/await", params={"wait": 5}))
    await settled()
    await idle.world.clock.run_for(5)
    assert ((await waiting).status_code, (await waiting).json()) == (202, {"status": "running"})

    waiting = asyncio.create_task(idle.http.get("/v1/processes/p/await", params={"wait": 5}))
    await settled()
    await post(idle, "/p/fail", {"code": "c", "message": "m"})

    answer = await waiting
    assert (answer.status_code, answer.json()["status"]) == (200, "failed")
    assert answer.json()["output"] == {"type": "failure", "class": "execution", "code": "c", "message": "m"}


async def test_who_waits_is_let_go_when_the_server_has_drained(idle: Inside) -> None:
    await registered(idle)
    waiting = [
        asyncio.create_task(idle.http.get(f"/v1/processes/p/{path}", params={"wait": 60}))
        for path in ("await", "events")
    ]
    await settled()
    idle.gateway.drained.set()

    assert [(await answer).status_code for answer in waiting] == [202, 200]


@pytest.mark.parametrize("query", ["wait=61", "wait=-1", "wait=x", "timeout=1"])
async def test_a_wait_has_its_bounds(idle: Inside, query: str) -> None:
    await registered(idle)
    assert_problem(await idle.http.get(f"/v1/processes/p/await?{query}"), 400, "invalid_field")


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "external"},
        {"kind": "external", "process_id": "q", "session_id": "s", "agent_frame_id": None, "descriptor": {}},
        {"kind": "external", "event_types": [REPORT], "wake": {"target_session_id": "s"}},
        {"kind": "external", "process_id": "a b"},
        {"kind": "external", "process_id": "a\n"},
        {"kind": "external", "input": None},
        {"kind": "external", "event_types": [{"name": 7}]},
        {"kind": "external", "event_types": [{"name": "a", "semantics": {"x": 1}}]},
        {"kind": "external", "descriptor": []},
        {"process_id": "q"},
    ],
)
async def test_the_document_says_what_a_registration_may_be(idle: Inside, body: Json) -> None:
    await idle.session()

    taken = (await post(idle, "", body)).is_success

    assert validator({"$ref": "#/components/schemas/PostProcess"}).is_valid(body) is taken


# What is too large for a record


async def test_a_large_output_is_named_in_the_record_and_read_by_its_name(idle: Inside) -> None:
    await registered(idle)
    output = {"page": "x" * 100_000}

    record = (await post(idle, "/p/complete", {"output": output})).json()

    name = record["output"]["value"]["$attachment"]
    assert (name["media_type"], name["size"]) == ("application/json", 100_011)
    response = await idle.http.get(f"/v1/processes/p/attachments/{name['attachment_id']}")
    assert (response.status_code, response.json()) == (200, output)
    assert response.headers["content-type"] == "application/json"
    again = await idle.http.get(response.request.url, headers={"If-None-Match": response.headers["etag"]})
    assert again.status_code == 304
    assert (await idle.http.get("/v1/processes/p/await")).json()["output"] == {"type": "success", "value": output}
    for path in ("/v1/processes", "/v1/processes/p", "/v1/processes/p/events"):
        assert len((await idle.http.get(path)).content) < 5_000
    assert (await post(idle, "/p/complete", {"output": output})).status_code == 200
    assert_problem(await post(idle, "/p/complete", {"output": {"page": "y" * 100_000}}), 409, "process_terminal")


async def test_a_name_that_names_nothing_is_not_found(idle: Inside) -> None:
    await registered(idle)
    assert_problem(await idle.http.get("/v1/processes/p/attachments/sha256:0"), 404, "attachment_not_found")
    assert_problem(await idle.http.get("/v1/processes/q/attachments/sha256:0"), 404, "process_not_found")


async def test_what_looks_like_such_a_name_is_refused(idle: Inside) -> None:
    await registered(idle, event_types=[{"name": "note"}])
    name = {"$attachment": {"attachment_id": "sha256:0", "media_type": "application/json", "size": 1}}
    problem = assert_problem(
        await post(idle, "/p/events", {"event_type": "note", "payload": name}), 400, "invalid_field"
    )
    assert problem["field"] == "payload"
