"""The main job, as a person does it: give it work, watch it in two tabs, lose everything, miss nothing."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.cutting import Relay
from tests.browser.served import Served

pytestmark = pytest.mark.browser

_LIVE = re.compile("live")


def _session_of(page: Page) -> str:
    return page.evaluate("() => decodeURIComponent(location.hash.replace('#/s/', ''))")  # type: ignore[no-any-return]


def _say(page: Page, text: str) -> None:
    page.locator("#composer textarea").fill(text)
    page.locator("#composer textarea").press("Enter")


def _shown(page: Page) -> list[dict[str, Any]]:
    """The transcript on the screen: id, role and text of every message."""
    messages: list[dict[str, Any]] = page.evaluate(
        """() => [...document.querySelectorAll('#transcript .message[data-message-id]')].map((node) => ({
            message_id: node.dataset.messageId, role: node.dataset.role, text: node.textContent,
        }))"""
    )
    return messages


def _wait_for_text(page: Page, text: str) -> None:
    expect(page.locator("#transcript")).to_contain_text(text)


def test_two_tabs_end_alike_after_a_reload_and_a_kill_in_mid_stream(context: BrowserContext, served: Served) -> None:
    first = context.new_page()
    first.goto("/")
    _say(first, "stream 200 every 50")
    _wait_for_text(first, "seq=3 ")
    session = _session_of(first)

    second = context.new_page()
    second.goto(f"/#/s/{session}")
    _wait_for_text(second, "seq=5 ")
    expect(second.locator("#connection")).to_have_attribute("data-phase", _LIVE)

    first.reload()
    _wait_for_text(first, "seq=20 ")
    assert served.get(f"/v1/sessions/{session}")["status"] == "running"

    served.kill()
    for page in (first, second):
        expect(page.locator("#connection")).to_have_attribute("data-phase", "reconnecting")
    served.start()

    for page in (first, second):
        expect(page.locator("#connection")).to_have_text("resynchronised")
        expect(page.locator("#connection")).to_have_attribute("data-resynchronised", "1")
        expect(page.locator("#error")).to_be_empty()
    for page in (first, second):
        expect(page.locator("#transcript .message[data-role=assistant][data-message-id]")).to_have_count(
            1, timeout=30_000
        )

    view = served.get(f"/v1/sessions/{session}")
    messages = view["read_view"]["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"], "the turn is there exactly once"
    words = re.findall(r"seq=(\d+) ", messages[1]["content"])
    assert words == [str(number) for number in range(200)], "no word is lost, none doubled"
    for page in (first, second):
        shown = _shown(page)
        assert [entry["message_id"] for entry in shown] == [message["message_id"] for message in messages]
        assert messages[1]["content"].strip() in shown[1]["text"]
        expect(page.locator(".live")).to_have_count(0)
        expect(page.locator("#error")).to_be_empty()
    assert [entry["text"] for entry in _shown(first)] == [entry["text"] for entry in _shown(second)]
    batches = served.get(f"/v1/sessions/{session}/queue?state=all")["batches"]
    assert [(batch["state"], batch["attempts"]) for batch in batches] == [("completed", 2)]


def test_the_browsers_own_event_source_resumes_by_itself(context: BrowserContext, served: Served) -> None:
    page = context.new_page()
    with Relay(served.url) as relay:
        page.goto(relay.url)
        page.evaluate(_OPEN_EVENT_SOURCE)
        page.wait_for_function("() => window.seen.length > 0")
        page.evaluate(_POST_TURN, "stream 160 every 50")
        for deltas in (10, 25):
            page.wait_for_function(f"() => window.seen.filter(([kind]) => kind === 'delta').length > {deltas}")
            assert relay.cut() >= 1
        page.wait_for_function("() => window.seen.some(([kind]) => kind === 'committed')")
        seen: list[list[str]] = page.evaluate("() => window.seen")
    controls = [kind for kind, _ in seen if kind not in ("delta", "committed")]
    assert controls == ["observation", "resumed", "resumed"], (
        "the browser sent Last-Event-ID, the server went on behind it"
    )
    words = re.findall(r"seq=(\d+) ", "".join(text for kind, text in seen if kind == "delta"))
    assert words == [str(number) for number in range(160)]


_OPEN_EVENT_SOURCE = """async () => {
    const headers = { 'content-type': 'application/json' };
    await fetch('/v1/sessions/plain', { method: 'PUT', headers, body: '{}' });
    window.seen = [];
    const source = new EventSource('/v1/sessions/plain/events');
    for (const kind of ['observation', 'resumed', 'gap', 'goodbye', 'committed'])
        source.addEventListener(kind, () => window.seen.push([kind, '']));
    source.addEventListener('turn_activity', (event) => {
        const activity = JSON.parse(event.data).data.event;
        if (activity.type === 'assistant_prose_delta') window.seen.push(['delta', activity.text]);
    });
}"""

_POST_TURN = """(input) => fetch('/v1/sessions/plain/turns', {
    method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ input }),
})"""
