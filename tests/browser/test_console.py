"""The console in use: keyboard, queue, stop, failures, history, small screens, no WebSocket."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.served import Served

pytestmark = pytest.mark.browser


def _post(served: Served, session: str, text: str, *, wait: int = 20) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=30) as client:
        client.put(f"/v1/sessions/{session}", json={}).raise_for_status()
        headers = {"Prefer": f"wait={wait}"} if wait else {}
        client.post(f"/v1/sessions/{session}/turns", json={"input": text}, headers=headers).raise_for_status()


def _assistant(page: Page) -> str:
    return page.locator("#messages .message[data-role=assistant]").last.inner_text()


def test_everything_works_by_keyboard_alone(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/")
    expect(page.locator("#composer textarea")).to_be_focused()
    page.keyboard.type("echo first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second line")
    page.keyboard.press("Enter")
    expect(page.locator("#messages .message[data-role=user]")).to_contain_text(
        "first line\nsecond line", use_inner_text=True
    )
    expect(page.locator("#composer textarea")).to_have_value("")
    page.keyboard.type("sleep 60000")
    page.keyboard.press("Enter")
    expect(page.locator("#stop")).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.locator("#stop")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#messages .message[data-role=assistant]").last).to_contain_text("stopped")
    expect(page.locator("#stop")).to_be_hidden()


def test_waiting_inputs_are_listed_in_order_and_can_be_cancelled(context: BrowserContext, served: Served) -> None:
    _post(served, "busy", "sleep 60000", wait=0)
    for text in ("echo one", "echo two", "echo three"):
        _post(served, "busy", text, wait=0)
    page = context.new_page()
    page.goto("/#/s/busy")
    rows = page.locator("#queue-list li")
    expect(rows).to_have_count(3)
    expect(rows.nth(1)).to_contain_text("echo two")
    rows.nth(1).get_by_role("button", name=re.compile("cancel", re.IGNORECASE)).click()
    expect(rows).to_have_count(2)
    page.locator("#stop").click()
    expect(page.locator("#messages .message[data-role=user]")).to_have_count(3)
    expect(page.locator("#messages")).to_contain_text("three")
    expect(page.locator("#messages")).not_to_contain_text("two")
    expect(rows).to_have_count(0)


def test_a_failed_turn_stays_in_the_transcript_and_says_why(context: BrowserContext, served: Served) -> None:
    _post(served, "sad", "fail the disk is full")
    page = context.new_page()
    page.goto("/#/s/sad")
    expect(page.locator("#messages .message[data-role=assistant]")).to_contain_text("the disk is full")
    expect(page.locator("#error")).to_be_empty()


def test_a_session_that_is_not_there_or_is_deleted_meanwhile_is_said_to_be_so(
    context: BrowserContext, served: Served
) -> None:
    page = context.new_page()
    page.goto("/#/s/never-made")
    expect(page.locator("#welcome-title")).not_to_be_empty()
    expect(page.locator("#connection")).to_have_attribute("data-phase", "unavailable")
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        client.put("/v1/sessions/gone", json={})
    page.goto("/#/s/gone")
    expect(page.locator("#connection")).to_have_text("live")
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        client.delete("/v1/sessions/gone").raise_for_status()
    expect(page.locator("#connection")).to_have_attribute("data-phase", "unavailable")


def test_older_messages_come_page_by_page_without_a_double(context: BrowserContext, served: Served) -> None:
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
        client.put("/v1/sessions/long", json={})
        for number in range(130):
            client.post("/v1/sessions/long/turns", json={"input": f"echo {number}"}).raise_for_status()
        client.post(
            "/v1/sessions/long/turns", json={"input": "echo end"}, headers={"Prefer": "wait=60"}
        ).raise_for_status()
    page = context.new_page()
    page.goto("/#/s/long")
    expect(page.locator("#messages")).to_contain_text("end")
    for _ in range(5):
        if page.locator("#older").is_hidden():
            break
        before = page.locator("#messages .message").count()
        page.locator("#older").click()
        expect(page.locator("#messages .message")).not_to_have_count(before)
    ids: list[str] = page.evaluate(
        "() => [...document.querySelectorAll('#messages .message')].map((node) => node.dataset.messageId)"
    )
    assert len(ids) == len(set(ids)) == 262


def test_without_websockets_the_stream_comes_as_server_sent_events(context: BrowserContext, served: Served) -> None:
    context.add_init_script("delete window.WebSocket")
    page = context.new_page()
    page.goto("/")
    page.locator("#composer textarea").fill("stream 150 every 20")
    page.keyboard.press("Enter")
    expect(page.locator(".live")).to_contain_text("seq=2 ")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#messages .message[data-role=assistant]")).to_contain_text("seq=149 ")


def test_the_list_is_told_what_changes_on_the_one_connection_of_the_page(
    context: BrowserContext, served: Served
) -> None:
    page = context.new_page()
    sockets: list[str] = []
    asked: list[str] = []
    page.on("websocket", lambda socket: sockets.append(socket.url.partition("/v1/")[2]))
    page.on("request", lambda request: asked.append(request.url.partition("/v1/")[2]))
    _post(served, "first", "echo one")
    page.goto("/#/s/first")
    expect(page.locator("#connection")).to_have_text("live")
    entries = page.locator("#sessions li")
    expect(entries).to_have_count(1)
    _post(served, "second", "sleep 60000", wait=0)
    expect(entries).to_have_count(2)
    expect(entries.first).to_have_attribute("data-session-id", "second")
    expect(entries.first).to_have_attribute("data-status", "running")
    entries.first.click()
    expect(page.locator("#status")).to_have_text("running")
    page.locator("#stop").click()
    expect(entries.first).to_have_attribute("data-status", "idle")
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        client.delete("/v1/sessions/first").raise_for_status()
    expect(entries).to_have_count(1)
    assert sockets == ["observe"]
    assert [path for path in asked if path.startswith("sessions?")] == []


def test_where_the_one_connection_is_refused_each_session_gets_its_own_and_the_list_is_asked_for(
    context: BrowserContext, served: Served
) -> None:
    context.add_init_script("delete window.WebSocket")
    context.route("**/v1/observe", lambda route: route.fulfill(status=404, json={"code": "not_found"}))
    page = context.new_page()
    _post(served, "alone", "stream 100 every 20", wait=0)
    page.goto("/#/s/alone")
    expect(page.locator("#messages .message[data-role=assistant]")).to_contain_text("seq=99 ")
    expect(page.locator("#connection")).to_have_text("live")
    expect(page.locator("#error")).to_be_empty()
    expect(page.locator("#sessions li")).to_have_count(1)
    _post(served, "another", "echo one")
    expect(page.locator("#sessions li")).to_have_count(2)


def test_three_tabs_show_the_same_and_closing_one_cancels_nothing(context: BrowserContext, served: Served) -> None:
    _post(served, "shared", "stream 200 every 30", wait=0)
    tabs = [context.new_page() for _ in range(3)]
    for tab in tabs:
        tab.goto("/#/s/shared")
        expect(tab.locator(".live")).to_contain_text("seq=1 ")
    tabs.pop().close()
    for tab in tabs:
        expect(tab.locator("#messages .message[data-role=assistant]")).to_contain_text("seq=199 ")
    assert _assistant(tabs[0]) == _assistant(tabs[1])
    assert served.get("/v1/sessions/shared/queue?state=all")["batches"][0]["state"] == "completed"


def test_a_server_that_is_told_to_stop_hands_the_tabs_over_to_the_next_one(
    context: BrowserContext, served: Served
) -> None:
    _post(served, "moved", "stream 200 every 30", wait=0)
    page = context.new_page()
    page.goto("/#/s/moved")
    expect(page.locator(".live")).to_contain_text("seq=5 ")
    served.stop()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    served.start()
    expect(page.locator("#connection")).to_have_text("resynchronised")
    expect(page.locator("#messages .message[data-role=assistant]")).to_contain_text("seq=199 ")
    expect(page.locator("#error")).to_be_empty()
    (batch,) = served.get("/v1/sessions/moved/queue?state=all")["batches"]
    assert (batch["state"], batch["attempts"]) == ("completed", 1), "a drained turn ends, or is handed back uncharged"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1440])
def test_nothing_overflows_and_text_is_readable(browser: Browser, served: Served, width: int, scheme: str) -> None:
    _post(served, "narrow", "echo " + "a-very-long-word-without-any-break" * 20)
    context = browser.new_context(
        base_url=served.url,
        viewport={"width": width, "height": 780},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto("/#/s/narrow")
    expect(page.locator("#messages .message[data-role=assistant]")).to_be_visible()
    assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    contrast: float = page.evaluate(_CONTRAST)
    context.close()
    assert contrast >= 4.5


_CONTRAST = """() => {
    const luminance = (colour) => {
        const [r, g, b] = colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
            .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const node = document.querySelector('#messages .message[data-role=assistant]');
    const clear = (element) => /, 0\\)$|transparent/.test(getComputedStyle(element).backgroundColor);
    let below = node;
    while (clear(below) && below.parentElement) below = below.parentElement;
    const text = luminance(getComputedStyle(node).color);
    const ground = luminance(getComputedStyle(below).backgroundColor);
    return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
}"""


def test_a_picture_is_shown_where_it_was_sent(context: BrowserContext, served: Served) -> None:
    _post(served, "look", "echo first")
    dot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=="
    given = {
        "items": [{"type": "text", "text": "what is this?"}, {"type": "image_ref", "id": "dot"}],
        "image_blobs": {"dot": dot},
    }
    page = context.new_page()
    page.goto("/#/s/look")
    expect(page.locator("#messages .message")).to_have_count(2)
    with httpx.Client(base_url=served.url, trust_env=False, timeout=30) as client:
        client.post("/v1/sessions/look/turns", json={"input": given}, headers={"Prefer": "wait=20"}).raise_for_status()
    shown = page.locator("#messages .message[data-role=user]").last
    expect(shown).to_contain_text("what is this?")
    expect(shown.locator("img")).to_have_js_property("naturalWidth", 1)


def test_a_reset_empties_the_transcript_in_every_tab(context: BrowserContext, served: Served) -> None:
    _post(served, "over", "echo first")
    page = context.new_page()
    page.goto("/#/s/over")
    expect(page.locator("#messages .message")).to_have_count(2)
    with httpx.Client(base_url=served.url, trust_env=False, timeout=30) as client:
        client.post(
            "/v1/sessions/over/commands",
            json={"kind": "reset_session", "reason": "start over"},
            headers={"Idempotency-Key": "k"},
        ).raise_for_status()
    expect(page.locator("#messages .message")).to_have_count(0)
    _post(served, "over", "echo anew")
    expect(page.locator("#messages .message")).to_have_count(2)
