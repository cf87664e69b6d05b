"""The OpenAPI 3.1 document, made from the operations and the types that parse and encode the wire."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.metadata import version
from typing import Any

import msgspec
import msgspec.json

from sightline_gateway.http.operations import APPLIED_THROUGH, KEY_FORM, Operation
from sightline_gateway.problems import CODES, Problem

__all__ = ["document"]

_REF = "#/components/schemas/{name}"
_HEADER_HELP = {
    "Idempotency-Key": "1 to 255 printable characters; the same key and body are the same work while that is kept.",
    "Prefer": "`wait=N`: hold the answer until the work has ended, at most N (60) seconds.",
    "If-None-Match": "The `ETag` of an earlier answer.",
    "Last-Event-ID": "What to resume behind: the `id` of the last event that came; wins over the query's.",
    "Accept": "`text/event-stream` for the stream, `application/json` for a page.",
}
_HEADER_FORMS = {"Idempotency-Key": {"minLength": 1, "maxLength": 255, "pattern": f"^{KEY_FORM}$"}}
_EVERYWHERE = ("invalid_field", "host_not_allowed", "origin_not_allowed", "internal")
_SESSIONS = "/v1/sessions"
"""What is written below this is shown to who watches the session."""
_STREAM = {"text/event-stream": {"schema": {"type": "string"}}}


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """All operations as one OpenAPI 3.1 document."""
    shapes: list[Any] = [Problem]
    for operation in operations:
        shapes += [shape for shape in (operation.query, operation.body, *operation.answers.values()) if shape]
    unique = list({id(shape): shape for shape in shapes}.values())
    schemas, components = msgspec.json.schema_components(unique, ref_template=_REF)
    schema_of = {id(shape): schema for shape, schema in zip(unique, schemas, strict=True)}
    # A query string is no schema of its own: its fields become parameters.
    queries = {id(shape): components.pop(shape.__name__) for shape in {operation.query for operation in operations}}
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schema_of, queries[id(operation.query)])
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sightline",
            "version": version("sightline"),
            "summary": "Durable agent sessions that can be watched, left and resumed.",
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _operation(operation: Operation, schema_of: dict[int, Any], query: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _identity(operation),
        "summary": operation.summary,
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(query),
            *_headers(operation),
        ],
        "responses": {**_answers(operation, schema_of), **_refusals(operation.problems, schema_of)},
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema_of[id(operation.body)]}},
        }
    return described


def _identity(operation: Operation) -> str:
    words = [word.strip("{}") for word in operation.path.split("/") if word and word != "v1"]
    return "_".join([operation.method.lower(), *words]).replace(".", "_")


def _path_parameters(operation: Operation) -> Iterable[dict[str, Any]]:
    for part in operation.path.split("/"):
        if part.startswith("{"):
            name = part.strip("{}")
            longest = 128 if name == "session_id" else 200
            schema = {
                "type": "string",
                "minLength": 1,
                "maxLength": longest,
                "pattern": "^[A-Za-z0-9._~:@-]+$",
            }
            yield {"name": name, "in": "path", "required": True, "schema": schema}


def _query_parameters(query: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for name, schema in query["properties"].items():
        required = name in query.get("required", ())
        yield {"name": name, "in": "query", "required": required, "schema": _without_null(schema)}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a parameter that may be left out: a query string has no null."""
    kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
    if len(kinds) == 1:
        schema = kinds[0] | {name: value for name, value in schema.items() if name != "anyOf"}
    return {name: value for name, value in schema.items() if name != "default" or value is not None}


def _headers(operation: Operation) -> Iterable[dict[str, Any]]:
    for name in operation.headers:
        yield {
            "name": name,
            "in": "header",
            "required": False,
            "description": _HEADER_HELP[name],
            "schema": {"type": "string"} | _HEADER_FORMS.get(name, {}),
        }


def _answers(operation: Operation, schema_of: dict[int, Any]) -> dict[str, Any]:
    described = {}
    for status, shape in operation.answers.items():
        answer: dict[str, Any] = {"description": operation.summary}
        if operation.streams and shape is not None:
            answer["content"] = dict(_STREAM)
        if shape is not None:
            answer.setdefault("content", {})["application/json"] = {"schema": schema_of[id(shape)]}
            if operation.media:
                binary = {"schema": {"type": "string", "format": "binary"}}
                answer["content"] = dict.fromkeys(operation.media, binary)
        if operation.method != "GET" and operation.path.startswith(_SESSIONS) and status != 204:
            answer["headers"] = {
                APPLIED_THROUGH: {
                    "description": "A stream that has passed this cursor has shown the write.",
                    "schema": {"type": "string"},
                }
            }
        described[str(status)] = answer
    return described


def _refusals(problems: Sequence[str], schema_of: dict[int, Any]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys((*problems, *_EVERYWHERE)):
        by_status.setdefault(CODES[code].status, []).append(code)
    return {
        str(status): {
            "description": ", ".join(f"`{code}`" for code in codes),
            "content": {"application/problem+json": {"schema": schema_of[id(Problem)]}},
        }
        for status, codes in sorted(by_status.items())
    }
