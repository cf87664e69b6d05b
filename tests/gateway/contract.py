"""What every answer has to keep, whatever the test is about: the served document, and the wire's rules for refusals.

The document's schemas leave room for fields to come. Here they are closed: an answer has what they name and no more.
"""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from typing import Any

import httpx
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

from sightline_gateway.app import OPERATIONS
from sightline_gateway.http.openapi import document

__all__ = ["assert_keeps_the_contract", "assert_problem", "served_document", "validator"]

Json = dict[str, Any]

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "instance", "code", "retryable"}
FURTHER_MEMBERS = {"field", "pointer", "value", "errors", "state", "answer", "gap", "observation", "trace_id"}
# What a router or the door answers before any route is known.
ANYWHERE = {"not_found", "method_not_allowed", "host_not_allowed", "origin_not_allowed"}


@cache
def served_document() -> Json:
    decoded: Json = json.loads(json.dumps(document(OPERATIONS)))
    return decoded


@cache
def _closed_components() -> Json:
    components = copy.deepcopy(served_document()["components"])
    for schema in components["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False
    closed: Json = components
    return closed


def validator(schema: Json) -> Draft202012Validator:
    """A validator of a schema of the document, whose references are those of the document."""
    return Draft202012Validator(schema | {"components": _closed_components()})


def assert_keeps_the_contract(response: httpx.Response) -> None:
    assert response.headers["x-request-id"]
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "traceback" not in response.text.lower()
    if response.request.method == "HEAD":
        assert response.content == b""
        return
    if not (response.is_success or response.status_code == 304):
        assert_problem(response)
    described = _described(response.request)
    if described is None or (response.status_code >= 400 and response.json()["code"] in ANYWHERE):
        return
    answer = described["responses"].get(str(response.status_code))
    assert answer is not None, f"{response.status_code} is not in the document: {response.text}"
    if "content" not in answer:
        assert response.content == b""
        return
    kind = response.headers["content-type"].partition(";")[0]
    if not kind.endswith("json"):
        assert kind in answer["content"]
        return
    body = response.json()
    validator(answer["content"][kind]["schema"]).validate(body)
    if response.status_code >= 400:
        assert f"`{body['code']}`" in answer["description"], "this code is not in the document"
    for name, header in answer.get("headers", {}).items():
        assert name in response.headers, header


def assert_problem(response: httpx.Response, status: int | None = None, code: str | None = None) -> Json:
    """The refusal's body; it is whole, and says this if that is given."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    problem: Json = response.json()
    assert problem.keys() >= PROBLEM_MEMBERS
    assert problem.keys() <= PROBLEM_MEMBERS | FURTHER_MEMBERS
    assert problem["status"] == response.status_code
    assert isinstance(problem["retryable"], bool)
    assert problem["type"].endswith(problem["code"])
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"].startswith("/")
    assert ("retry-after" in response.headers) is (response.status_code in (429, 503))
    assert ("allow" in response.headers) is (response.status_code == 405)
    if response.status_code >= 500:
        assert problem["trace_id"] == response.headers["x-request-id"]
    else:
        assert "trace_id" not in problem
    if status is not None:
        assert response.status_code == status, problem
    if code is not None:
        assert problem["code"] == code, problem
    return problem


def _described(request: httpx.Request) -> Json | None:
    method = "get" if request.method == "HEAD" else request.method.lower()
    for path, operations in served_document()["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
        if method in operations and re.fullmatch(pattern, request.url.path):
            found: Json = operations[method]
            return found
    return None
