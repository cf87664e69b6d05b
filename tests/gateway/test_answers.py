"""Answers to what a turn asks (wire: section 4). Nothing can ask yet, so every answer comes too early."""

from __future__ import annotations

import pytest

from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside

pytestmark = pytest.mark.anyio


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
