"""Streams on both kinds of line: by ASGI alone, and as the owners of their connections."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.stream.stage import beneath


@pytest.fixture(params=["asgi", "line"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    token = beneath.set(request.param == "line")
    yield request.param
    beneath.reset(token)
