"""Ids of the system: they sort by creation, and look like what they are."""

from __future__ import annotations

import uuid

from sightline.ids import SystemIds


def test_ids_sort_by_creation_also_within_a_millisecond() -> None:
    ids = SystemIds()
    made = [ids.new() for _ in range(10_000)]
    assert made == sorted(set(made))


def test_an_id_is_a_uuid_of_version_seven() -> None:
    ids = SystemIds()
    for _ in range(100):
        read = uuid.UUID(ids.new())
        assert (read.version, read.variant) == (7, uuid.RFC_4122)


def test_two_processes_do_not_make_the_same_ids() -> None:
    here, there = SystemIds(), SystemIds()
    assert {here.new() for _ in range(1_000)}.isdisjoint({there.new() for _ in range(1_000)})


def test_tokens_differ_and_chance_stays_within_its_bounds() -> None:
    ids = SystemIds()
    assert len({ids.token() for _ in range(1_000)}) == 1_000
    assert all(0 <= ids.uniform() < 1 for _ in range(100))
