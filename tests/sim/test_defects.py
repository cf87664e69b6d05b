"""The simulation can fail: each planted defect is caught, and by a law that it breaks."""

from __future__ import annotations

import gc
from itertools import count

import pytest

from tests.sim.defects import Defect
from tests.sim.defects_of_tasks import ALL_DEFECTS
from tests.sim.draw import draw
from tests.sim.ledger import Law
from tests.sim.world import run

GROUP = 50


@pytest.mark.timeout(300)
@pytest.mark.parametrize("defect", ALL_DEFECTS, ids=lambda defect: defect.name)
def test_a_planted_defect_is_caught(defect: Defect) -> None:
    caught = first_seed(defect)
    assert caught < defect.within, f"no law broke within {defect.within} seeds"


def test_there_are_at_least_ten_and_every_law_is_broken_by_one() -> None:
    assert len(ALL_DEFECTS) >= 10
    assert frozenset().union(*(defect.breaks for defect in ALL_DEFECTS)) == set(Law) - {Law.EXPECTED}


def first_seed(defect: Defect) -> int:
    """The seed whose world first breaks a law that the defect must break."""
    gc.disable()  # see `tests.sim.__main__`
    try:
        with defect.plant():
            for seed in count(defect.begin):
                if seed % GROUP == 0:
                    gc.collect()
                plan = draw(seed)
                quiet = (defect.of_processes and not plan.processes) or (defect.of_tasks and not plan.has_tasks)
                violation = None if quiet else run(plan).violation
                if seed >= defect.within or (violation is not None and violation.law in defect.breaks):
                    return seed
    finally:
        gc.enable()
    raise AssertionError("there is no last seed")
