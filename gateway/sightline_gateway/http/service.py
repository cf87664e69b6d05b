"""Alive, ready, and what is not there yet (wire: section 9)."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from sightline.errors import Draining
from sightline_gateway.http.operations import Answer, Call, Operation

__all__ = ["LATER", "OPERATIONS"]


class Health(Struct, frozen=True):
    status: Literal["ok"]


async def healthz(call: Call) -> Answer:
    return Answer(200, Health("ok"))


async def readyz(call: Call) -> Answer:
    """Ready means: takes work, and the store answers."""
    if call.gateway.kernel.draining:
        raise Draining
    await call.gateway.kernel.next_due()
    return Answer(200, Health("ok"))


OPERATIONS = (
    Operation(method="GET", path="/healthz", summary="Alive", handle=healthz, answers={200: Health}),
    Operation(
        method="GET",
        path="/readyz",
        summary="Ready for work",
        handle=readyz,
        answers={200: Health},
        problems=("draining", "store_unavailable"),
    ),
)

_LATER = (
    ("POST", "/v1/tickets"),
    ("GET", "/metrics"),
    ("GET", "/asyncapi.json"),
    ("GET", "/docs"),
)

LATER = tuple((path, methods.split()) for methods, path in _LATER)
"""Routes of the wire that answer 501 until they are built."""
