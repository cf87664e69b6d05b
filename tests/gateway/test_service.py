"""Alive, ready, and the console's files (wire: section 9)."""

from __future__ import annotations

import pytest

from tests.gateway.contract import assert_problem
from tests.gateway.inside import Inside, opened

pytestmark = pytest.mark.anyio


async def test_a_server_is_alive_and_ready(inside: Inside) -> None:
    for path in ("/healthz", "/readyz"):
        response = await inside.http.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_a_draining_server_is_alive_and_not_ready(inside: Inside) -> None:
    await inside.world.kernel.drain(0)

    assert (await inside.http.get("/healthz")).status_code == 200
    response = await inside.http.get("/readyz")
    assert assert_problem(response, 503, "draining")["retryable"] is True
    assert int(response.headers["retry-after"]) >= 1


async def test_a_server_whose_store_is_away_is_alive_and_not_ready() -> None:
    async with opened(start=False) as idle:
        idle.world.faults.fail_before("next_due", times=2)

        assert (await idle.http.get("/healthz")).status_code == 200
        assert_problem(await idle.http.get("/readyz"), 503, "store_unavailable")
        assert_problem(await idle.http.get("/readyz"), 503, "store_unavailable")
        assert (await idle.http.get("/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "text/html"),
        ("/console/main.js", "text/javascript"),
        ("/console/theme.css", "text/css"),
        ("/client/index.js", "text/javascript"),
    ],
)
async def test_the_console_is_served_and_asked_about_each_time(inside: Inside, path: str, kind: str) -> None:
    response = await inside.http.get(path)

    assert response.status_code == 200
    assert response.headers["content-type"].startswith(kind)
    assert response.headers["cache-control"] == "no-cache"
    assert (await inside.http.get(path, headers={"If-None-Match": response.headers["etag"]})).status_code in (200, 304)
