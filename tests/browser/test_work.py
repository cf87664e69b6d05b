"""Work beside the turns, in a browser: watched, left, found again, stopped, handed over."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.served import Served

pytestmark = pytest.mark.browser


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    served.start()
    yield served
    served.stop()


def opened(served: Served, browser: Browser, path: str = "/") -> Page:
    page = browser.new_context(base_url=served.url).new_page()
    page.goto(path)
    return page


def say(page: Page, text: str) -> str:
    """The address of the session that was told."""
    page.locator("#composer textarea").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator("#messages .message[data-role=assistant]")).to_have_count(1)
    return str(page.evaluate("() => location.hash"))


def test_who_comes_back_finds_the_woken_turn_with_its_cause(served: Served, browser: Browser) -> None:
    page = opened(served, browser)
    session = say(page, "spawn countdown 12 every 300 wake")
    row = page.locator("#work-list li[data-process-id]")
    process_id = row.get_attribute("data-process-id")
    expect(row.locator(".preview")).to_contain_text("countdown")
    expect(row.locator(".far")).to_have_text(re.compile(r"^\d+ of 12$"))
    expect(row.locator("progress")).to_have_attribute("max", "12")
    page.context.close()

    page = opened(served, browser, f"/{session}")
    assistant = page.locator("#messages .message[data-role=assistant]")
    expect(assistant.last).to_contain_text(f"woken by {process_id}")
    expect(page.locator("#messages .message[data-role=system]")).to_contain_text(f"Process {process_id} reported done")
    expect(page.locator("#work")).to_be_hidden()
    expect(page.locator("#error")).to_be_empty()
    page.context.close()


def test_the_log_is_read_to_its_end_and_stopping_stops(served: Served, browser: Browser) -> None:
    page = opened(served, browser)
    say(page, "spawn countdown 500 every 50")
    row = page.locator("#work-list li[data-process-id]")
    row.get_by_role("button", name="Log:").click()
    log = row.locator("ol.log")
    expect(log.locator("li", has_text='{"done":3,"total":500}')).to_be_visible()
    expect(log.locator("li", has_text='{"done":9,"total":500}')).to_be_visible()
    row.get_by_role("button", name="Stop:").click()
    expect(log.locator("li", has_text="process.cancel_requested")).to_be_visible()
    expect(log.locator("li").last).to_contain_text("process.cancelled")
    expect(row.locator(".flag")).to_have_text("cancelled")
    expect(row.get_by_role("button", name="Stop:")).to_be_hidden()
    row.get_by_role("button", name="Log:").click()
    expect(page.locator("#work")).to_be_hidden()
    expect(page.locator("#error")).to_be_empty()
    page.context.close()


def test_what_is_handed_over_is_shown_where_it_went(served: Served, browser: Browser) -> None:
    page = opened(served, browser)
    say(page, "echo the other one")
    page.locator("#new-session").click()
    expect(page.locator("#messages .message")).to_have_count(0)
    expect(page.locator("#sessions")).to_contain_text("echo the other one")
    say(page, "spawn countdown 500 every 50")
    row = page.locator("#work-list li[data-process-id]")
    row.get_by_role("button", name="Hand over:").click()
    row.get_by_role("combobox").select_option(label="echo the other one")
    row.locator("form").get_by_role("button", name="Hand over").click()
    expect(page.locator("#work")).to_be_hidden()
    page.locator("#sessions").get_by_text("echo the other one").click()
    expect(row.locator(".preview")).to_contain_text("countdown")
    expect(row.locator(".far")).to_contain_text("of 500")
    expect(page.locator("#error")).to_be_empty()
    page.context.close()
