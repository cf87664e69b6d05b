"""Answers to what a turn asks (wire: section 4)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from sightline.testing.clock import settled
from sightline.turn.agent import Turn
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json

pytestmark = pytest.mark.anyio


async def asks(turn: Turn) -> None:
    turn.text(f"answered: {await turn.ask('which?', kind='approval', options=['a', 'b'])}")


async def asks_freely(turn: Turn) -> None:
    turn.text(f"answered: {await turn.ask('which?', options=['a', 'b'])}")


async def asked(inside: Inside, order: Callable[[Turn], Awaitable[None]] = asks) -> Json:
    """A turn that waits: its request."""
    await inside.session()
    await inside.running_turn()
    await inside.puppet.does(order)
    [request] = (await inside.session())["requests"]
    found: Json = request
    return found


async def test_an_answer_lets_the_turn_go_on(inside: Inside) -> None:
    request = await asked(inside)
    view = await inside.session()
    assert view["status"] == "waiting"
    assert request == {
        "request_id": request["request_id"],
        "turn_id": view["live"]["turn_id"],
        "kind": "approval",
        "prompt": "which?",
        "options": ["a", "b"],
        "at_ms": request["at_ms"],
    }
    body = {"request_id": request["request_id"], "answer": "a"}
    response = await inside.http.post("/v1/sessions/s/answers", json=body)
    assert response.status_code == 200
    answer = response.json()
    assert answer["request_id"] == request["request_id"]
    assert response.headers["Sightline-Applied-Through"] == answer["applied_through"]
    await inside.puppet.ends()
    events = await inside.events_after(view["cursor"])
    told = [event for event in events if event["kind"] == "request_changed"]
    assert [event["data"] for event in told] == [{"kind": "answered", "requests": [request]}]
    after = await inside.session()
    assert (after["status"], after["requests"]) == ("idle", [])
    assert after["read_view"]["messages"][-1]["content"] == "answered: a"


@pytest.mark.parametrize("answer", ["", False, None, 0, {"approve": [True]}])
async def test_any_json_is_an_answer_to_a_question(inside: Inside, answer: Any) -> None:
    request = await asked(inside, asks_freely)
    body = {"request_id": request["request_id"], "answer": answer}
    assert (await inside.http.post("/v1/sessions/s/answers", json=body)).status_code == 200
    await inside.puppet.ends()
    assert (await inside.session())["read_view"]["messages"][-1]["content"] == f"answered: {answer}"


@pytest.mark.parametrize("answer", ["c", "", "A", True, None, ["a"], {"a": "because"}])
async def test_an_approval_is_answered_with_what_it_offers(inside: Inside, answer: Any) -> None:
    request = await asked(inside)
    body = {"request_id": request["request_id"], "answer": answer}
    problem = assert_problem(await inside.http.post("/v1/sessions/s/answers", json=body), 400, "invalid_field")
    assert (problem["field"], problem["detail"]) == ("answer", 'answer: must be one of "a", "b"')
    view = await inside.session()
    assert (view["status"], view["requests"]) == ("waiting", [request])


async def test_a_second_answer_is_refused_with_the_first_also_after_the_turn(inside: Inside) -> None:
    request = await asked(inside)
    body = {"request_id": request["request_id"], "answer": "a"}
    await inside.http.post("/v1/sessions/s/answers", json=body)
    for again in ("a", "b", "c"):
        response = await inside.http.post("/v1/sessions/s/answers", json=body | {"answer": again})
        assert assert_problem(response, 409, "already_answered")["answer"] == "a"
        await inside.puppet.ends()


async def test_an_answer_to_what_was_withdrawn_is_refused(inside: Inside) -> None:
    request = await asked(inside)
    await inside.http.post("/v1/sessions/s/cancel", json={})
    await settled()
    body = {"request_id": request["request_id"], "answer": "a"}
    assert_problem(await inside.http.post("/v1/sessions/s/answers", json=body), 404, "request_not_found")


async def test_a_session_that_waits_is_listed_as_waiting(inside: Inside) -> None:
    await asked(inside)
    await inside.session("other")
    page = (await inside.http.get("/v1/sessions", params={"status": "waiting"})).json()
    assert [(entry["session_id"], entry["status"]) for entry in page["sessions"]] == [("s", "waiting")]
    page = (await inside.http.get("/v1/sessions", params={"status": "running"})).json()
    assert page["sessions"] == []


async def test_an_answer_to_what_nobody_asked_is_refused(inside: Inside) -> None:
    await inside.session()
    await inside.running_turn()
    for answer in ("yes", True, None, {"approve": True}):
        response = await inside.http.post("/v1/sessions/s/answers", json={"request_id": "r", "answer": answer})
        assert_problem(response, 404, "request_not_found")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"answer": "yes"}, "request_id"),
        ({"request_id": "r"}, "answer"),
        ({"request_id": "", "answer": 1}, "request_id"),
        ({"request_id": 7, "answer": 1}, "request_id"),
        ({"request_id": "r", "answer": 1, "more": 2}, "more"),
    ],
)
async def test_an_answer_that_is_none_names_its_field(inside: Inside, body: dict[str, object], field: str) -> None:
    await inside.session()
    response = await inside.http.post("/v1/sessions/s/answers", json=body)
    assert assert_problem(response, 400, "invalid_field")["field"] == field


async def test_an_answer_in_no_session_or_a_deleted_one_is_refused_as_everything_is(inside: Inside) -> None:
    body = {"request_id": "r", "answer": "yes"}
    assert_problem(await inside.http.post("/v1/sessions/s/answers", json=body), 404, "session_not_found")
    await inside.session()
    await inside.http.delete("/v1/sessions/s")
    assert_problem(await inside.http.post("/v1/sessions/s/answers", json=body), 410, "session_deleted")
