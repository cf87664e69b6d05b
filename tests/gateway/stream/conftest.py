"""Streams on every kind of line: as the owners of their connections, and by ASGI alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.gateway.stream import serving
from tests.gateway.stream.serving import HYPERCORN, LEAN, PLAIN, Server
from tests.gateway.stream.stage import beneath


@pytest.fixture(params=["asgi", "line"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """How clients of a stage are connected."""
    token = beneath.set(request.param == "line")
    yield request.param
    beneath.reset(token)


@pytest.fixture(params=[LEAN, PLAIN, HYPERCORN], ids=["lean", "plain", "hypercorn"])
def server_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Server:
    """What serves on real sockets."""
    monkeypatch.setattr(serving, "KIND", request.param)
    chosen: Server = request.param
    return chosen
