"""What a turn asks, and people who answer it: in this tab, in another browser, before and after a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.served import Served

pytestmark = pytest.mark.browser

APPROVING = """
async def agent(turn):
    if await turn.ask("Delete everything?", kind="approval"):
        turn.text("deleted")
    else:
        turn.text("kept")
"""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    (tmp_path / "approving.py").write_text(APPROVING)
    served = Served(tmp_path)
    yield served
    served.stop()


def ask(page: Page, text: str) -> None:
    page.locator("#composer textarea").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#requests li")).to_have_count(1)


def answered(page: Page) -> str:
    expect(page.locator("#requests")).to_be_hidden()
    expect(page.locator("#messages .message[data-role=assistant]")).to_have_count(1)
    expect(page.locator("#status")).to_have_text("idle")
    return page.locator("#messages .message[data-role=assistant]").inner_text()


def test_a_question_is_shown_and_answered_by_keyboard(served: Served, browser: Browser) -> None:
    served.start()
    page = browser.new_context(base_url=served.url).new_page()
    page.goto("/")
    ask(page, "ask Which one?")
    expect(page.locator("#status")).to_have_text("waiting")
    request = page.locator("#requests li")
    expect(request.locator(".prompt")).to_have_text("Which one?")
    request.locator("input").fill("the second")
    page.keyboard.press("Enter")
    assert "answered: the second" in answered(page)
    expect(page.locator("#error")).to_be_empty()
    page.context.close()


def test_what_is_being_typed_stays_while_the_session_goes_on(served: Served, browser: Browser) -> None:
    served.start()
    page = browser.new_context(base_url=served.url).new_page()
    page.goto("/")
    ask(page, "ask Which one?")
    box = page.locator("#requests input")
    box.fill("half an ans")
    session = page.evaluate("() => location.hash.slice(4)")
    with httpx.Client(base_url=served.url, trust_env=False) as client:
        client.post(f"/v1/sessions/{session}/turns", json={"input": "echo later"}).raise_for_status()
    expect(page.locator("#queue-list li")).to_have_count(1)
    expect(box).to_have_value("half an ans")
    page.locator("#stop").click()
    expect(page.locator("#requests")).to_be_hidden()
    expect(page.locator("#messages")).to_contain_text("later")
    page.context.close()


def test_an_approval_outlives_the_server_and_is_given_from_another_browser(served: Served, browser: Browser) -> None:
    served.start("--agent", "approving:agent")
    first: BrowserContext = browser.new_context(base_url=served.url)
    page = first.new_page()
    page.goto("/")
    ask(page, "clean up")
    session = page.evaluate("() => location.hash")
    expect(page.locator("#requests .prompt")).to_have_text("Delete everything?")

    served.kill()
    expect(page.locator("#connection")).to_have_text("reconnecting")
    served.start("--agent", "approving:agent")

    second = browser.new_context(base_url=served.url)
    other = second.new_page()
    other.goto(f"/{session}")
    expect(other.locator("#requests .prompt")).to_have_text("Delete everything?")
    expect(page.locator("#connection")).to_have_text("resynchronised")
    expect(page.locator("#requests .prompt")).to_have_text("Delete everything?")
    other.get_by_role("button", name="Approve").click()
    for tab in (other, page):
        assert "deleted" in answered(tab)
        expect(tab.locator("#error")).to_be_empty()
    first.close()
    second.close()
