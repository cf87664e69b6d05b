"""The benchmarks' instruments work: each runs for a moment, and what it says has the right shape. No times are held to.

What is measured beside us is left out: it would have to be installed.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from msgspec import structs

if sys.platform != "linux" or not all(map(shutil.which, ("taskset", "setpriv"))):
    pytest.skip("the benchmarks need Linux, with taskset and setpriv", allow_module_level=True)

from tests.bench import fan_out, generator, group_commits, latency
from tests.bench.generator import compiler_version, generate
from tests.bench.machine import look_at_the_machine
from tests.bench.measuring import Options, Row, Rows, Sample, Subject, Unavailable, Wrong, in_rounds
from tests.bench.page import Section
from tests.bench.peers import packages
from tests.bench.report import Measured, Report, page
from tests.bench.sections import SECTIONS
from tests.bench.sides import event, raw_broadcaster

pytestmark = [pytest.mark.bench, pytest.mark.anyio]

TINY = Options(
    rounds=1,
    seconds=0.2,
    warm_up=0.05,
    sessions=3,
    observed=2,
    rate=20,
    watch_seconds=0.4,
    callers=(4,),
    depths=(1, 5),
    breadths=(2,),
    requests=5,
    repeats=8,
    idle=20,
    settle_seconds=0.0,
    idle_seconds=0.2,
    observers=20,
    deliveries=400,
    missed=30,
    waiting=30,
    waiting_seconds=0.2,
    storm=60,
    deltas=500,
)


def ours(section: Section) -> list[Subject]:
    """Of a section's subjects that need nothing from elsewhere one, or every transport."""
    own = [subject for subject in section.subjects(TINY) if subject.prepare in (None, compiler_version)]
    if section in (latency.SECTION, fan_out.FAN_OUT_SECTION):
        return own
    return own[-1:] if own[-1].prepare is None else own[:1]


needs_cc = pytest.mark.skipif(not shutil.which("cc"), reason="the load generator has to be compiled")


def needs_a_compiler(subjects: Sequence[Subject]) -> bool:
    return any(subject.prepare is compiler_version for subject in subjects)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
async def test_an_instrument_finds_a_figure_for_every_column(section: Section) -> None:
    if needs_a_compiler(ours(section)) and not shutil.which("cc"):
        pytest.skip("the load generator has to be compiled, and there is no cc")
    rows = await in_rounds(ours(section), 1)
    for name, row in rows.rows.items():
        assert row.reason is None, (name, row.reason)
        [sample] = row.rounds
        assert sample is not None
        assert {column.metric for column in section.columns} <= set(sample), name
        assert all(math.isfinite(value) for value in sample.values()), sample
        assert sample[section.columns[0].metric] >= 0


async def test_a_post_costs_one_group_commit_and_a_turn_at_least_three() -> None:
    assert await group_commits.of_posts(5) == {"groups": 1}
    assert (await group_commits.of_turns(5, 1))["groups"] >= 3


@needs_cc
@pytest.mark.parametrize(
    ("numbers", "wrong"),
    [
        ((0, 1, 2, 3), ""),
        ((0, 1, 3, 4), "1 gaps"),
        ((0, 1, 1, 2), "1 doubles"),
        ((1, 2, 3, 4), "1 gaps"),
        ((0, 1, 2), "1 missing"),
    ],
)
async def test_the_load_generator_notices_what_is_lost_and_what_comes_twice(
    numbers: tuple[int, ...], wrong: str
) -> None:
    async with raw_broadcaster().stand(1) as stand:
        port = int(stand.publish[-1])
        watching = asyncio.create_task(
            generate(
                "finish",
                stand.process,
                *stand.watch,
                "--missed",
                "4",
                "--first",
                "0",
                "--patience",
                "1",
                "--settle",
                "0",
            )
        )
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.4)  # the observer has to be there first
        writer.write("".join(f"0 {event(number)}\n" for number in numbers).encode())
        if wrong:
            with pytest.raises(Wrong, match=wrong):
                await watching
        else:
            assert (await watching)["gaps"] == 0
        writer.close()


async def test_without_a_compiler_streams_are_not_measured_and_the_page_says_why(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(generator, "BUILT", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None)

    async def never() -> Sample:
        raise AssertionError

    rows = await in_rounds([Subject("a", never, compiler_version)], 1)
    assert rows.rows["a"].rounds == []
    assert "no C compiler" in str(rows.rows["a"].reason)


@pytest.mark.parametrize(
    ("tool", "ask"),
    [
        ("apt-get", lambda: packages.unpacked_from_debian("no-such-package")),
        ("npm", lambda: packages.from_npm("no-such-peer", "no-such-package@1")),
    ],
)
async def test_a_peer_that_cannot_be_fetched_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: str, ask: Callable[[], Awaitable[object]]
) -> None:
    found = shutil.which
    monkeypatch.setattr(packages, "DEBIAN", tmp_path)
    monkeypatch.setattr(packages, "NPM", tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == tool else found(name))
    with pytest.raises(Unavailable, match="not on this machine"):
        await ask()


async def test_what_cannot_be_measured_has_its_reason_on_the_page_and_stops_nobody() -> None:
    async def missing() -> dict[str, str]:
        raise Unavailable("it is not for sale")

    async def broken() -> Sample:
        raise ValueError("a secret")

    async def works() -> Sample:
        return {"rate": 2.0}

    rows = await in_rounds([Subject("a", works, missing), Subject("b", broken), Subject("c", works)], 3)
    assert rows.rows == {
        "a": Row([], "it is not for sale"),
        "b": Row([None] * 3, "a round failed: ValueError"),
        "c": Row([{"rate": 2.0}] * 3),
    }
    text = page(SECTIONS, await report_of(rows))
    assert "- a: not measured: it is not for sale." in text
    assert "- b: not measured: a round failed: ValueError." in text
    assert "| c | 2 |" in text


async def test_the_page_has_every_section_and_a_verdict_for_every_target() -> None:
    report = await report_of(Rows())
    for section in SECTIONS:
        rounds: list[Sample | None] = [{column.metric: 1.0 + turn for column in section.columns} for turn in range(3)]
        rows = {subject.name: Row(rounds) for subject in section.subjects(Options())}
        report[section.name] = structs.replace(report[section.name], rows=rows)
    text = page(SECTIONS, report)
    for section in SECTIONS:
        assert f"\n## {section.title}\n" in text
        for target in section.targets:
            assert any(
                f"| {target.text} | " in line and line.endswith(("met |", "**missed** |")) for line in text.splitlines()
            )
    assert "2 (1..3)" in text


async def report_of(rows: Rows) -> Report:
    one = Measured("2026-01-31", await look_at_the_machine(), Options(), rows.rows, {"peer": "1.0"})
    return {section.name: one for section in SECTIONS}
