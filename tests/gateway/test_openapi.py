"""The served document: it is OpenAPI, it has every route and nothing else, and its types are those of the wire.

That answers fit its schemas is checked wherever an answer passes, in `contract`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from starlette.routing import Mount, Route

from sightline_gateway.access.door import Door
from sightline_gateway.app import OPERATIONS
from sightline_gateway.http.service import LATER
from sightline_gateway.problems import CODES
from tests.gateway.contract import served_document, validator
from tests.gateway.inside import Inside, Json, opened

OPERATIONS_OF_PATH = {"get", "put", "post", "delete"}
PAGES = {"/"}


def operations() -> Iterator[tuple[str, str, Json]]:
    for path, methods in served_document()["paths"].items():
        for method, operation in methods.items():
            yield method, path, operation


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


@pytest.mark.anyio
async def test_the_document_is_served_as_it_is_made() -> None:
    async with opened(start=False) as idle:
        response = await idle.http.get("/openapi.json")

        assert response.headers["content-type"] == "application/json"
        assert response.json() == served_document()


def test_the_document_has_the_form_of_openapi() -> None:
    document = served_document()
    assert document["openapi"] == "3.1.0"
    assert document.keys() == {"openapi", "info", "paths", "components"}
    assert {"title", "version"} <= document["info"].keys()
    identities = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(identities)) == len(identities)
    for method, path, operation in operations():
        assert method in OPERATIONS_OF_PATH
        assert operation["summary"]
        in_path = [item["name"] for item in operation["parameters"] if item["in"] == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", path)
        names = [(item["in"], item["name"]) for item in operation["parameters"]]
        assert len(set(names)) == len(names)
        for item in operation["parameters"]:
            assert item["in"] in ("path", "query", "header")
            assert item["required"] is True or item["in"] != "path"
        for status, answer in operation["responses"].items():
            assert re.fullmatch("[2-5][0-9][0-9]", status)
            assert answer["description"]


def test_every_schema_is_one_and_every_reference_leads_somewhere() -> None:
    document = served_document()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for _, _, operation in operations():
        for item in operation["parameters"]:
            jsonschema.Draft202012Validator.check_schema(item["schema"])
    names = document["components"]["schemas"]
    used = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert used == set(names)


@pytest.mark.anyio
async def test_every_route_is_in_the_document_and_nothing_else() -> None:
    async with opened(start=False) as idle:
        assert isinstance(idle.app, Door)
        routes = idle.app._app.routes  # type: ignore[attr-defined]
    later = {(path, method) for path, methods in LATER for method in methods}
    served = {
        (route.path, method)
        for route in routes
        if isinstance(route, Route) and route.path not in PAGES
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert {route.path for route in routes if isinstance(route, Mount)} == {"/console", "/client"}
    assert served - later == {(path, method.upper()) for method, path, _ in operations()}
    assert later <= served


def test_an_operation_is_described_as_it_is_declared() -> None:
    described = {(method.upper(), path): operation for method, path, operation in operations()}
    for operation in OPERATIONS:
        found = described[operation.method, operation.path]
        statuses = {str(status) for status in operation.answers} | {
            str(CODES[code].status) for code in operation.problems
        }
        assert statuses <= found["responses"].keys()
        assert ("requestBody" in found) is (operation.body is not None)


def test_requests_are_closed_because_unknown_fields_are_refused() -> None:
    document = served_document()
    for _, _, operation in operations():
        if "requestBody" in operation:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            name = schema["$ref"].removeprefix("#/components/schemas/")
            assert document["components"]["schemas"][name]["additionalProperties"] is False
    for name in ("InputItems", "TextItemIn", "ImageItemIn", "GroupKey"):
        assert document["components"]["schemas"][name]["additionalProperties"] is False


def test_a_query_parameter_is_never_null() -> None:
    for _, _, operation in operations():
        for item in operation["parameters"]:
            assert {"type": "null"} not in item["schema"].get("anyOf", ())
            assert item["schema"].get("default", "") is not None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "name", "bodies"),
    [
        (
            "/v1/sessions/s/turns",
            "PostTurn",
            [
                {"input": "x"},
                {"input": {"items": [{"type": "text", "text": "x"}]}, "merge_key": {"group": "g"}},
                {"input": "x", "slot_policy": "join", "delivery_policy": "earliest_safe_boundary"},
                {"input": "x", "available_at_ms": 2**63 - 1, "merge_key": "payload_default"},
                {},
                {"input": ""},
                {"input": "x", "other": 1},
                {"input": "x", "slot_policy": "alone"},
                {"input": "x", "available_at_ms": -1},
                {"input": {"items": []}},
                {"input": {"items": [{"type": "text"}]}},
                {"input": {"items": [{"type": "text", "text": "x", "y": 1}]}},
                {"input": "x", "merge_key": {"group": ""}},
            ],
        ),
        (
            "/v1/sessions/s/cancel",
            "PostCancel",
            [
                {},
                {"turn_id": "t", "reason": "r"},
                {"idempotency_key": "k", "turn_id": None},
                {"idempotency_key": ""},
                {"idempotency_key": "x" * 256},
                {"idempotency_key": "k\n"},
                {"reason": None},
                {"reason": "x" * 1_001},
                {"turn": "t"},
            ],
        ),
        (
            "/v1/sessions",
            "CreateSession",
            [
                {},
                {"session_id": None, "policy": {"a": []}, "metadata": {}},
                {"session_id": "a:b"},
                {"session_id": "a b"},
                {"session_id": "a\n"},
                {"session_id": "x" * 129},
                {"policy": []},
                {"metdata": {}},
            ],
        ),
    ],
)
async def test_the_document_and_the_server_agree_on_what_a_request_may_be(
    path: str, name: str, bodies: list[Json]
) -> None:
    schema = validator({"$ref": f"#/components/schemas/{name}"})
    async with opened(start=False) as idle:
        await idle.session()
        for body in bodies:
            taken = (await idle.http.post(path, json=body)).is_success
            assert schema.is_valid(body) is taken, body


@pytest.mark.anyio
async def test_the_contract_notices_an_answer_that_is_not_as_described(idle: Inside) -> None:
    view = await idle.session()
    schema = validator({"$ref": "#/components/schemas/CreatedSession"})
    assert schema.is_valid(view)
    assert not schema.is_valid(view | {"surprise": 1})
    assert not schema.is_valid({name: value for name, value in view.items() if name != "queue"})
    assert not schema.is_valid(view | {"status": "asleep"})
