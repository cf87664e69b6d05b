"""The soak works: a few seconds of it. `make soak` is the real one."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.processes import ROOT
from tests.soak.vitals import Vitals, growth

pytestmark = pytest.mark.bench


def test_a_few_observers_come_and_go_and_nothing_is_lost() -> None:
    asked = ("--minutes", "0.1", "--observers", "100", "--sessions", "12")
    finished = subprocess.run(
        [sys.executable, "-m", "tests.soak", *asked], cwd=ROOT, capture_output=True, text=True, timeout=100
    )
    assert (finished.returncode, finished.stderr) == (0, ""), finished.stdout
    assert "lost, doubled or otherwise wrong: 0" in finished.stdout


@pytest.mark.parametrize(("last", "grows"), [(100, False), (109, False), (112, True)])
def test_memory_is_flat_when_its_last_third_is_not_above_the_second(last: int, grows: bool) -> None:
    resident = [10, 50, 90, 100, 100, 100, last, last, last]
    samples = [Vitals(float(number), size, 1, 1, 0.0, 0) for number, size in enumerate(resident)]
    assert (growth(samples) > 0.1) == grows
