"""Bodies that are not what they should be: every refusal says what is wrong, all of it, and nothing is done."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from sightline_gateway.http.bodies import parse_object
from sightline_gateway.problems import ProblemError
from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, Json, opened

pytestmark = pytest.mark.anyio

TURNS = "/v1/sessions/s/turns"
CANCEL = "/v1/sessions/s/cancel"


@pytest.fixture
async def idle(anyio_backend: str) -> AsyncIterator[Inside]:
    """With session `s`; on memory alone, because a body that is refused reaches no store."""
    async with opened(start=False, max_body=20_000) as idle:
        await idle.session()
        yield idle
        assert (await idle.http.get("/v1/sessions/s/queue?state=all")).json() == {"batches": []}


async def send(idle: Inside, raw: bytes, path: str = TURNS, **headers: str) -> httpx.Response:
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return await idle.http.post(path, content=raw, headers=named)


def fields(problem: Json) -> list[str]:
    return [error["field"] for error in problem["errors"]]


# JSON that is none


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"input": "x"',
        b'{"input": "x"} {}',
        b'{"input": "x",}',
        b"{'input': 'x'}",
        b'{"input": undefined}',
        b'{"input": 01}',
        b'{"input": +1}',
        b'{"input": 1.}',
        b'{"input": 0x10}',
        b'{"input": "a\nb"}',
        b'{"input": "\\x41"}',
        b'// no\n{"input": "x"}',
        b"not json",
        b"\x00",
    ],
)
async def test_what_is_not_json_is_refused(idle: Inside, raw: bytes) -> None:
    assert_problem(await send(idle, raw), 400, "malformed_json")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize(
    "form", ['{{"input": {}}}', '{{"input": "x", "available_at_ms": {}}}', '{{"a": [{{"b": {}}}]}}']
)
async def test_numbers_that_json_does_not_have_are_refused(idle: Inside, form: str, word: str) -> None:
    problem = assert_problem(await send(idle, form.format(word).encode()), 400, "malformed_json")

    assert word in problem["detail"]


@pytest.mark.parametrize(
    "raw",
    [
        '{"input": "Zoë"}'.encode("latin-1"),
        '{"input": "x"}'.encode("utf-16"),
        '\ufeff{"input": "x"}'.encode(),
        b'{"input": "\xff"}',
        b'{"input": "\xc0\xaf"}',
        b'{"input": "\xed\xa0\x80"}',
        b'{"input": "\xf4\x90\x80\x80"}',
        b'{"\xff": "x"}',
    ],
)
async def test_what_is_not_utf_8_is_refused(idle: Inside, raw: bytes) -> None:
    assert_problem(await send(idle, raw), 400, "malformed_json")


@pytest.mark.parametrize(
    "raw",
    [
        b'{"input": "a", "input": "a"}',
        b'{"input": "a", "inp\\u0075t": "b"}',
        b'{"input": {"items": [{"type": "text", "text": "a", "text": "b"}]}}',
        b'{"input": "x", "unknown": [[{"k": 1, "k": 1}]]}',
    ],
)
async def test_a_key_that_comes_twice_is_refused(idle: Inside, raw: bytes) -> None:
    assert "twice" in assert_problem(await send(idle, raw), 400, "malformed_json")["detail"]


@pytest.mark.parametrize("opening", ["[", '{"a":', '[{"a":'])
@pytest.mark.parametrize("times", [65, 1_000, 6_000])
async def test_deep_nesting_is_refused(idle: Inside, opening: str, times: int) -> None:
    closing = opening.translate(str.maketrans("[{", "]}", '"a:'))[::-1]
    if len(raw := f'{{"input": {opening * times}1{closing * times}}}') > 20_000:
        raw = f'{{"input": {opening * (18_000 // len(opening))}'

    assert_problem(await send(idle, raw.encode()), 400, "malformed_json")


async def test_nesting_that_is_not_deep_is_kept(idle: Inside) -> None:
    deep: Any = "bottom"
    for _ in range(60):
        deep = [deep]

    await idle.session("deep", metadata={"x": deep})

    assert (await idle.http.get("/v1/sessions/deep")).json()["metadata"] == {"x": deep}


@pytest.mark.parametrize(
    "number", ["1e400", "-1e400", "9" * 5_000, "-" + "9" * 5_000, str(2**63), str(-(2**63)), "1" * 21]
)
@pytest.mark.parametrize("form", ['{{"input": "x", "available_at_ms": {}}}', '{{"input": "x", "unknown": [{}]}}'])
async def test_numbers_beyond_what_can_be_held_are_refused(idle: Inside, form: str, number: str) -> None:
    problem = assert_problem(await send(idle, form.format(number).encode()), 400, "malformed_json")

    assert len(problem["detail"]) < 200


async def test_a_number_of_a_hundred_thousand_digits_is_refused_without_being_converted() -> None:
    # Python itself would refuse to convert it, with another error: that limit is not ours to lean on.
    with pytest.raises(ProblemError, match="beyond 64 bits"):
        parse_object(b'{"n": ' + b"9" * 100_000 + b"}")


@pytest.mark.parametrize("text", ["\\ud800", "\\udc00", "a\\udfffb", "\\udc00\\ud800"])
@pytest.mark.parametrize(
    "form", ['{{"input": "{}"}}', '{{"{}": 1}}', '{{"input": {{"items": [{{"type": "text", "text": "{}"}}]}}}}']
)
async def test_half_a_surrogate_pair_is_refused(idle: Inside, form: str, text: str) -> None:
    assert_problem(await send(idle, form.format(text).encode()), 400, "malformed_json")


@pytest.mark.parametrize("text", ["\U0001f600", "\u2028\u0085", "\x00\x1f\x7f", "a\r\nb", "\ufeff", "\uffff"])
async def test_any_text_of_unicode_is_kept_as_it_is(text: str) -> None:
    async with opened(start=False) as idle:
        await idle.session(metadata={text: text})
        response = await idle.http.post(TURNS, content=json.dumps({"input": text}).encode())

        [item] = response.json()["items"]
        assert item["payload"]["input"]["items"] == [{"type": "text", "text": text}]
        assert (await idle.http.get("/v1/sessions/s")).json()["metadata"] == {text: text}


# JSON that is something else


@pytest.mark.parametrize("raw", [b"", b"  \r\n\t ", b"[]", b'[{"input": "x"}]', b"null", b"true", b"1", b'"input"'])
@pytest.mark.parametrize("path", [TURNS, CANCEL, "/v1/sessions"])
async def test_a_body_that_is_no_object_or_empty_is_an_invalid_field(idle: Inside, path: str, raw: bytes) -> None:
    problem = assert_problem(await send(idle, raw, path), 400, "invalid_field")

    assert problem["field"] == "body"


async def test_unknown_fields_are_refused_each_by_its_name(idle: Inside) -> None:
    problem = assert_problem(
        await send(idle, b'{"input": "x", "inptu": 1, "Merge_key": 2, "": 3}'), 400, "invalid_field"
    )

    assert fields(problem) == ["inptu", "Merge_key", ""]
    assert all(name in problem["detail"] for name in ("inptu", "Merge_key"))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/sessions", {}),
        ("PUT", "/v1/sessions/new", {}),
        ("POST", TURNS, {"input": "x"}),
        ("POST", CANCEL, {}),
    ],
)
async def test_every_body_refuses_unknown_fields(idle: Inside, method: str, path: str, body: Json) -> None:
    problem = assert_problem(await idle.http.request(method, path, json=body | {"polcy": {}, "x": 1}), 400)

    assert (problem["code"], fields(problem)) == ("invalid_field", ["polcy", "x"])
    assert (await idle.http.get("/v1/sessions/new")).status_code == 404


async def test_everything_that_is_wrong_is_listed_wherever_it_is(idle: Inside) -> None:
    body: Json = {
        "input": {
            "items": [
                {"type": "text", "text": "fine"},
                {"type": "text", "text": "x", "colour": 1, "size": 2},
                {"type": "sound"},
                {"text": "y"},
                7,
            ],
            "extra": True,
        },
        "slot_policy": "alone",
        "delivery_policy": None,
        "merge_key": {"grp": "g"},
        "available_at_ms": -1,
        "unknown": [],
    }

    problem = assert_problem(await send(idle, json.dumps(body).encode()), 400, "invalid_field")

    assert sorted(fields(problem)) == sorted(
        [
            "unknown",
            "input.extra",
            "input.items[1].colour",
            "input.items[1].size",
            "input.items[2].type",
            "input.items[3]",
            "input.items[4]",
            "slot_policy",
            "delivery_policy",
            "merge_key.grp",
            "merge_key.group",
            "available_at_ms",
        ]
    )
    assert problem["field"] == problem["errors"][0]["field"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "input"),
        ({"input": None}, "input"),
        ({"input": 1}, "input"),
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": {}}, "input.items"),
        ({"input": {"items": []}}, "input.items"),
        ({"input": {"items": "x"}}, "input.items"),
        ({"input": {"items": [{"type": "text"}]}}, "input.items[0].text"),
        ({"input": {"items": [{"type": "text", "text": ""}]}}, "input"),
        ({"input": {"items": [{"type": "image_ref", "id": ""}]}}, "input.items[0].id"),
        ({"input": {"items": [{"type": "text", "text": "x"}] * 257}}, "input.items"),
        ({"input": "x", "available_at_ms": 1.5}, "available_at_ms"),
        ({"input": "x", "available_at_ms": 1.0}, "available_at_ms"),
        ({"input": "x", "available_at_ms": "1"}, "available_at_ms"),
        ({"input": "x", "available_at_ms": True}, "available_at_ms"),
        ({"input": "x", "merge_key": "always"}, "merge_key"),
        ({"input": "x", "merge_key": {"group": ""}}, "merge_key.group"),
        ({"input": "x", "merge_key": {"group": 1}}, "merge_key.group"),
        ({"input": "x", "slot_policy": "EXCLUSIVE"}, "slot_policy"),
    ],
)
async def test_a_turn_with_a_field_that_cannot_be_is_refused_by_its_name(idle: Inside, body: Json, field: str) -> None:
    problem = assert_problem(await send(idle, json.dumps(body).encode()), 400, "invalid_field")

    assert problem["field"] == field


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"session_id": 1}, "session_id"),
        ({"session_id": ""}, "session_id"),
        ({"policy": None}, "policy"),
        ({"policy": []}, "policy"),
        ({"metadata": "x"}, "metadata"),
    ],
)
async def test_a_session_with_a_field_that_cannot_be_is_refused_by_its_name(
    idle: Inside, body: Json, field: str
) -> None:
    problem = assert_problem(await send(idle, json.dumps(body).encode(), "/v1/sessions"), 400, "invalid_field")

    assert problem["field"] == field


async def test_a_value_is_shown_unless_it_is_long(idle: Inside) -> None:
    short = assert_problem(await send(idle, b'{"input": "x", "slot_policy": "alone"}'), 400)
    long = assert_problem(await send(idle, b'{"input": "x", "slot_policy": "%b"}' % (b"a" * 5_000)), 400)

    assert short["value"] == "alone"
    assert "value" not in long


async def test_a_body_full_of_nonsense_gets_no_longer_answer_than_it_deserves(idle: Inside) -> None:
    raw = json.dumps({"k" * 200 + str(n): n for n in range(90)} | {str(n): 0 for n in range(50)}).encode()

    problem = assert_problem(await send(idle, raw), 400, "invalid_field")

    assert len(problem["errors"]) == 101
    assert "41 more" in problem["errors"][-1]["detail"]
    assert len(json.dumps(problem)) < 2.5 * len(raw)


# Not JSON by its own word


@pytest.mark.parametrize(
    "kind",
    [
        "text/plain",
        "text/plain;charset=UTF-8",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "text/json",
        "",
    ],
)
async def test_a_body_of_another_kind_is_refused(idle: Inside, kind: str) -> None:
    assert_problem(await send(idle, b'{"input": "x"}', Content_Type=kind), 415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate", "identity, gzip", "GZIP"])
async def test_a_body_that_is_encoded_is_refused(idle: Inside, coding: str) -> None:
    response = await send(idle, b'{"input": "x"}', Content_Encoding=coding)

    assert_problem(response, 415, "unsupported_media_type")


@pytest.mark.parametrize(
    "kind", ["application/json", "APPLICATION/JSON; charset=utf-8", "application/vnd.x+json", None]
)
async def test_json_by_any_of_its_names_is_read(kind: str | None) -> None:
    async with opened(start=False) as idle:
        await idle.session()
        headers = {} if kind is None else {"Content-Type": kind, "Content-Encoding": "identity"}

        assert (await idle.http.post(TURNS, content=b'{"input": "x"}', headers=headers)).status_code == 202


# Too large


async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_not(idle: Inside) -> None:
    fitting = await idle.http.post("/v1/sessions", content=b"{}".ljust(20_000))
    larger = await idle.http.post("/v1/sessions", content=b"{}".ljust(20_001))

    assert fitting.status_code == 201
    assert "connection" not in fitting.headers
    assert "20000" in assert_problem(larger, 413, "body_too_large")["detail"]
    assert larger.headers["connection"] == "close"


async def read_by(idle: Inside, headers: dict[str, str], chunks: int, path: str = TURNS) -> tuple[httpx.Response, int]:
    """The answer to a body of so many chunks of 1,000 bytes, and how many the application took."""
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(chunks):
            taken += 1
            yield b" " * 1_000

    return await idle.http.post(path, content=body(), headers=headers), taken


async def test_a_body_that_announces_too_much_is_not_read_at_all(idle: Inside) -> None:
    for announced in ("20001", "9" * 30):
        response, taken = await read_by(idle, {"Content-Length": announced}, 100)

        assert_problem(response, 413, "body_too_large")
        assert taken == 0
        assert response.headers["connection"] == "close"


async def test_a_body_without_a_length_is_cut_off_at_the_limit(idle: Inside) -> None:
    response, taken = await read_by(idle, {"Transfer-Encoding": "chunked"}, 1_000)

    assert_problem(response, 413, "body_too_large")
    assert taken == 21
    assert response.headers["connection"] == "close"


async def test_a_body_that_lies_about_its_length_is_cut_off_too(idle: Inside) -> None:
    response, taken = await read_by(idle, {"Content-Length": "10"}, 1_000)

    assert_problem(response, 413, "body_too_large")
    assert taken == 21


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/nowhere"), ("PATCH", TURNS), ("DELETE", "/v1/sessions/t"), ("GET", "/healthz")]
)
async def test_a_body_that_nobody_wants_is_not_waited_for(idle: Inside, method: str, path: str) -> None:
    read = False

    async def body() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield b""

    response = await idle.http.request(method, path, content=body(), headers={"Content-Length": "1000000"})

    assert not read
    assert response.headers["connection"] == "close"


async def test_checks_that_need_no_body_come_before_it_is_read(idle: Inside) -> None:
    for path, headers, code in [
        ("/v1/sessions/s/turns?x=1", {}, "invalid_field"),
        ("/v1/sessions/a,b/turns", {}, "invalid_field"),
        (TURNS, {"Content-Type": "text/plain"}, "unsupported_media_type"),
        (TURNS, {"Origin": "https://evil.example"}, "origin_not_allowed"),
    ]:
        response, taken = await read_by(idle, {"Transfer-Encoding": "chunked", **headers}, 3, path)

        assert_problem(response, code=code)
        assert taken == 0
