"""Who may run a process: whatever the clocks say, one owner can write."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sightline.errors import ProcessConflict, ProcessLeaseLost, ProcessTerminal
from sightline.process.leasing import Hold, abandonment, acquired, check_rules, is_free, released, renewed
from sightline.process.model import (
    Disposition,
    ProcessBusy,
    ProcessLease,
    ProcessRecord,
    Registration,
)
from sightline.process.rules import checked, new_record

OWNERS = ("a", "b", "c")
steps = st.lists(
    st.tuples(
        st.sampled_from(("acquire", "acquire", "renew", "release", "hand back", "abandon")),
        st.sampled_from(OWNERS),
        st.integers(-40, 40),
    ),
    max_size=40,
)


def record_of(disposition: Disposition) -> ProcessRecord:
    return new_record(checked(Registration(process_id="p", kind="function", input={}, disposition=disposition)), 0)


def rules(hold: Hold, lease: ProcessLease) -> bool:
    try:
        check_rules(hold, lease)
    except ProcessLeaseLost:
        return False
    return True


@given(steps=steps, disposition=st.sampled_from(("rerunnable", "owner_bound")))
def test_of_all_leases_that_were_ever_given_one_at_most_can_write(
    steps: list[tuple[str, str, int]], disposition: Disposition
) -> None:
    """Owners have clocks of their own, off by up to four lease times."""
    record, hold = record_of(disposition), Hold()
    given: list[ProcessLease] = []
    newest: dict[str, ProcessLease] = {}
    now = 1_000
    for number, (step, owner, drift) in enumerate(steps):
        now += 3
        before = hold
        lease = newest.get(owner)
        try:
            if step == "acquire":
                got = acquired(record, hold, owner_id=owner, lease_token=f"t{number}", now=now + drift, ttl_ms=10)
                if not isinstance(got, ProcessBusy):
                    record, newest[owner] = got
                    hold = Hold.of(newest[owner])
                    given.append(newest[owner])
            elif step == "abandon":
                abandonment(record, hold, found_by=owner, now=now + drift)
                assert disposition == "owner_bound"
                assert before.owner_id is not None
                return
            elif lease is not None and step == "renew":
                newest[owner] = renewed(hold, lease, now=now + drift, ttl_ms=10)
                hold = Hold.of(newest[owner])
                assert hold.expires_at_ms >= before.expires_at_ms
            elif lease is not None:
                freed = released(record, hold, lease, charge=step == "release")
                record, hold = freed or (record, hold)
        except (ProcessLeaseLost, ProcessConflict):
            assert hold == before
        assert hold.fencing_token >= before.fencing_token
        assert sum(rules(hold, one) for one in {one.fencing_token: one for one in given}.values()) <= 1
        assert 0 <= record.attempts <= len(given)
        if disposition == "owner_bound" and before.owner_id is not None and hold.owner_id is not None:
            assert hold.owner_id == before.owner_id


def test_a_process_is_free_when_nobody_has_it_or_its_time_is_over() -> None:
    assert is_free(Hold(), 0)
    held = Hold(1, "a", "t", 0, 100)
    assert not is_free(held, 99)
    assert is_free(held, 100)


def test_what_has_ended_is_nobodys_to_run_or_to_give_up() -> None:
    ended = structs.replace(record_of("owner_bound"), status="completed")
    with pytest.raises(ProcessTerminal):
        acquired(ended, Hold(), owner_id="a", lease_token="t", now=0, ttl_ms=9)
    with pytest.raises(ProcessTerminal):
        abandonment(ended, Hold(1, "a", "t", 0, 0), found_by="b", now=9)
