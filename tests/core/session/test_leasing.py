"""Who may write to a session: by examples of each rule, and by what holds for every history of a lane."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sightline.session.leasing import Lane, acquired, is_lost, renewed
from sightline.session.model import LaneBusy, SessionLease

NOW = 1_000


def acquire(lane: Lane, owner: str = "me", *, now: int = NOW, ttl_ms: int = 100) -> SessionLease | LaneBusy:
    return acquired(lane, "s", owner_id=owner, lease_token=f"token of {owner}", now=now, ttl_ms=ttl_ms)


def granted(lane: Lane, owner: str = "me", **options: Any) -> SessionLease:
    lease = acquire(lane, owner, **options)
    assert isinstance(lease, SessionLease)
    return lease


def held(lease: SessionLease) -> Lane:
    return Lane(lease.generation, lease.owner_id, lease.lease_token, lease.expires_at_ms)


LEASE = granted(Lane())


def test_a_free_lane_is_anybodys() -> None:
    assert (
        SessionLease(session_id="s", owner_id="me", lease_token="token of me", generation=1, expires_at_ms=NOW + 100)
        == LEASE
    )
    assert granted(Lane(7), "you").generation == 8


def test_a_lane_in_use_is_nobody_elses_until_its_lease_has_expired() -> None:
    lane = held(LEASE)
    assert acquire(lane, "you", now=NOW + 99) == LaneBusy("me", NOW + 100)
    assert granted(lane, "you", now=NOW + 100).generation == 2


def test_a_generation_is_settled_when_nobody_has_the_lane_or_the_next_one_has() -> None:
    assert Lane().settled_generation == 0
    assert held(LEASE).settled_generation == 0
    assert held(LEASE).released().settled_generation == 1
    assert held(granted(held(LEASE), "you", now=NOW + 100)).settled_generation == 1


def test_an_owner_begins_again_whenever_it_likes_as_another_generation() -> None:
    again = granted(held(LEASE))
    assert again.generation == 2
    assert is_lost(held(again), LEASE)


def test_a_released_lane_is_free_and_keeps_its_generation() -> None:
    lane = held(LEASE).released()
    assert lane == Lane(1)
    assert is_lost(lane, LEASE)
    assert granted(lane, "you").generation == 2


def test_a_lease_is_lost_with_its_generation_or_its_token() -> None:
    lane = held(LEASE)
    assert not is_lost(lane, LEASE)
    assert is_lost(lane, structs.replace(LEASE, lease_token="other"))
    assert is_lost(lane, structs.replace(LEASE, generation=2))
    assert is_lost(Lane(), LEASE)


def test_time_alone_takes_nothing_away() -> None:
    lane = held(granted(Lane(), ttl_ms=0))
    assert not is_lost(lane, structs.replace(LEASE, expires_at_ms=NOW))


def test_a_renewal_moves_the_expiry_and_nothing_else() -> None:
    assert renewed(held(LEASE), LEASE, now=NOW + 50, ttl_ms=100) == structs.replace(LEASE, expires_at_ms=NOW + 150)


def test_no_renewal_shortens_whatever_the_clock_and_whatever_the_owner_had_heard() -> None:
    longer = renewed(held(LEASE), LEASE, now=NOW + 50, ttl_ms=100)
    for known in (LEASE, longer):
        assert renewed(held(longer), known, now=NOW - 500, ttl_ms=100) == longer


steps = st.lists(
    st.tuples(
        st.sampled_from(("acquire", "renew", "release")),
        st.sampled_from(("me", "you")),
        st.integers(-50, 50),
        st.sampled_from((0, 10, 100)),
        st.integers(0, 9),
    ),
    max_size=20,
)


@given(steps)
def test_at_every_moment_at_most_the_newest_lease_rules_and_generations_only_grow(steps: list[Any]) -> None:
    lane = Lane()
    now = NOW
    leases: list[SessionLease] = []
    for verb, owner, passed, ttl_ms, choice in steps:
        now += passed  # clocks go back, too
        before = lane
        if verb == "acquire":
            lease = acquire(lane, owner, now=now, ttl_ms=ttl_ms)
            if isinstance(lease, LaneBusy):
                assert lane.owner_id not in (None, owner)
                assert lane.expires_at_ms > now
                continue
            leases.append(lease)
            lane = held(lease)
            assert lane.generation == before.generation + 1
        elif leases:
            lease = leases[choice % len(leases)]
            if is_lost(lane, lease):
                continue
            lane = lane.released() if verb == "release" else held(renewed(lane, lease, now=now, ttl_ms=ttl_ms))
            assert lane.generation == before.generation
            assert verb == "release" or lane.expires_at_ms >= before.expires_at_ms
        ruling = [lease for lease in leases if not is_lost(lane, lease)]
        assert ruling in ([], leases[-1:])
