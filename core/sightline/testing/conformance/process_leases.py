"""What a registry promises about who may run a process: the leases of `sightline.process.leasing`."""

from __future__ import annotations

import asyncio
from typing import Any

from msgspec import UNSET, structs

from sightline.errors import (
    ProcessLeaseLost,
    ProcessNotFound,
    ProcessNotYours,
    ProcessTerminal,
)
from sightline.kernel import KernelStore
from sightline.process.model import (
    AbandonedOutput,
    Appended,
    EventSemantics,
    EventType,
    PayloadSelector,
    ProcessBusy,
    ProcessLease,
    SuccessOutput,
    TerminalRule,
    WakeRule,
)
from sightline.testing.conformance.process_steps import (
    append,
    ask_to_cancel,
    busy_process,
    end,
    everything_of,
    external,
    hold,
    log_of,
    offer_process,
    register,
    wakes,
)
from sightline.testing.conformance.steps import NOW, ignored, refused

_FINISHED = EventType(
    name="finished",
    semantics=EventSemantics(terminal=TerminalRule(state="completed"), wake=WakeRule(input=PayloadSelector())),
)


async def _abandon(store: KernelStore, now: int = NOW) -> Appended:
    return await store.abandon_process("p", found_by="me", now=now, then=ignored)


async def a_process_lease_says_whose_it_is_and_until_when(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store, "me", token="secret", now=NOW + 1, ttl_ms=100)
    assert (lease.process_id, lease.owner_id, lease.lease_token) == ("p", "me", "secret")
    assert (lease.fencing_token, lease.claimed_at_ms, lease.expires_at_ms) == (1, NOW + 1, NOW + 101)


async def while_one_owner_has_a_process_another_is_told_who_and_until_when(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store, ttl_ms=100)
    assert await busy_process(store, now=NOW + 99) == ProcessBusy("me", NOW + 100)
    # Nor did the question change anything.
    assert (await store.renew_process_lease(lease, now=NOW, ttl_ms=100)).fencing_token == lease.fencing_token
    assert (await store.get_process("p")).attempts == 1


async def a_process_whose_lease_expired_is_taken_over_with_a_larger_fencing(store: KernelStore) -> None:
    await register(store)
    first = await hold(store, ttl_ms=100)
    second = await hold(store, "you", now=NOW + 100)
    assert second.fencing_token == first.fencing_token + 1


async def of_many_workers_at_once_one_gets_the_process(store: KernelStore) -> None:
    await register(store)
    answers = await asyncio.gather(
        *(
            store.acquire_process_lease(
                "p", owner_id=f"owner {number}", lease_token=f"token {number}", now=NOW, ttl_ms=100
            )
            for number in range(20)
        )
    )
    [lease] = [answer for answer in answers if isinstance(answer, ProcessLease)]
    others = [answer for answer in answers if isinstance(answer, ProcessBusy)]
    assert others == [ProcessBusy(lease.owner_id, NOW + 100)] * 19


async def an_owner_that_begins_again_loses_what_it_had_before(store: KernelStore) -> None:
    await register(store)
    first = await hold(store, token="first")
    second = await hold(store, token="second")
    assert second.fencing_token == first.fencing_token + 1
    await refused(ProcessLeaseLost, store.renew_process_lease(first, now=NOW, ttl_ms=100))
    await refused(ProcessLeaseLost, append(store, lease=first))
    await append(store, lease=second)


async def a_process_lease_that_is_renewed_is_the_same_with_a_later_expiry(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store, ttl_ms=100)
    longer = await store.renew_process_lease(lease, now=NOW + 99, ttl_ms=100)
    assert longer == structs.replace(lease, expires_at_ms=NOW + 199)
    assert await busy_process(store, now=NOW + 198) == ProcessBusy("me", NOW + 199)
    # A clock that went back, and an owner that did not hear of the renewal, shorten nothing.
    assert await store.renew_process_lease(lease, now=NOW, ttl_ms=100) == longer


async def of_a_process_that_waits_earlier_attempts_do_not_count(store: KernelStore) -> None:
    await register(store)
    for attempt in range(3):
        lease = await hold(store, f"worker {attempt}", now=NOW + attempt * 30_000)
    await store.renew_process_lease(lease, now=NOW + 61_000, ttl_ms=30_000)
    assert (await store.get_process("p")).attempts == 3
    await store.renew_process_lease(lease, now=NOW + 62_000, ttl_ms=30_000, waits=True)
    record = await store.get_process("p")
    assert (record.attempts, record.started_at_ms) == (1, NOW)
    await store.release_process_lease(lease, charge=False)
    assert (await store.get_process("p")).attempts == 0


async def a_process_lease_that_expired_cannot_be_renewed(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store, ttl_ms=100)
    error = await refused(ProcessLeaseLost, store.renew_process_lease(lease, now=NOW + 100, ttl_ms=100))
    assert (error.process_id, error.fencing_token) == ("p", lease.fencing_token)
    await hold(store, "you", now=NOW + 100)


async def a_process_lease_is_proved_by_all_its_parts(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store, ttl_ms=100)
    before = await everything_of(store)
    for impostor in (
        structs.replace(lease, lease_token="guess"),
        structs.replace(lease, owner_id="you"),
        structs.replace(lease, fencing_token=lease.fencing_token - 1),
        structs.replace(lease, fencing_token=lease.fencing_token + 1),
    ):
        await refused(ProcessLeaseLost, store.renew_process_lease(impostor, now=NOW, ttl_ms=10**6))
        await refused(ProcessLeaseLost, append(store, lease=impostor))
        await refused(ProcessLeaseLost, end(store, lease=impostor))
        await store.release_process_lease(impostor)
    assert await everything_of(store) == before
    assert await busy_process(store) == ProcessBusy("me", NOW + 100)


async def a_released_process_is_free_at_once_and_its_fencing_goes_on(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store, ttl_ms=10**6)
    await store.release_process_lease(lease)
    await refused(ProcessLeaseLost, store.renew_process_lease(lease, now=NOW, ttl_ms=100))
    await store.release_process_lease(lease)
    assert (await hold(store, "you")).fencing_token == lease.fencing_token + 1
    # Late, and nothing to it any more.
    await store.release_process_lease(lease)
    await busy_process(store, "me")


async def attempts_are_counted_unless_they_are_handed_back(store: KernelStore) -> None:
    await register(store)
    assert (await store.get_process("p")).started_at_ms is UNSET
    await store.release_process_lease(await hold(store, now=NOW + 1), charge=False)
    record = await store.get_process("p")
    assert (record.attempts, record.started_at_ms) == (0, UNSET)
    await store.release_process_lease(await hold(store, now=NOW + 2))
    await hold(store, "you", now=NOW + 3)
    record = await store.get_process("p")
    assert (record.attempts, record.started_at_ms) == (2, NOW + 2)


async def there_is_no_lease_of_what_is_not_there_or_over_or_elsewhere(store: KernelStore) -> None:
    await refused(ProcessNotFound, hold(store))
    ghost = ProcessLease(
        process_id="p", owner_id="me", lease_token="t", fencing_token=1, claimed_at_ms=NOW, expires_at_ms=NOW + 9
    )
    await refused(ProcessLeaseLost, store.renew_process_lease(ghost, now=NOW, ttl_ms=100))
    await store.release_process_lease(ghost)
    await offer_process(store, external())
    await refused(ProcessNotYours, hold(store))
    await end(store)
    await refused(ProcessTerminal, hold(store))


async def the_end_under_a_lease_ends_the_lease_and_wakes_all_at_once(store: KernelStore) -> None:
    await register(store, event_types=(_FINISHED,))
    lease = await hold(store)
    ended = await append(store, "finished", "all of it", key="k", lease=lease, now=NOW + 1)
    assert (ended.record.status, ended.record.output) == ("completed", SuccessOutput(value="all of it"))
    assert await wakes(store) == [("s", "all of it")]
    await refused(ProcessLeaseLost, store.renew_process_lease(lease, now=NOW, ttl_ms=100))
    await refused(ProcessLeaseLost, append(store, "process.signal", lease=lease))
    # The answer was lost, and the lease with it: it is the same end all the same.
    again = await append(store, "finished", "all of it", key="k", lease=lease)
    assert (again.event, again.replayed) == (ended.event, True)


async def a_superseded_worker_writes_nothing(store: KernelStore) -> None:
    await register(store)
    stale = await hold(store, ttl_ms=100)
    current = await hold(store, "you", now=NOW + 100)
    before = await everything_of(store)
    await refused(ProcessLeaseLost, append(store, lease=stale))
    await refused(ProcessLeaseLost, append(store, "report", {"text": "t"}, lease=stale))
    await refused(ProcessLeaseLost, end(store, SuccessOutput(value="stale"), lease=stale))
    assert await everything_of(store) == before
    ended = await end(store, SuccessOutput(value="current"), lease=current)
    assert ended.record.output == SuccessOutput(value="current")
    await refused(ProcessTerminal, end(store, SuccessOutput(value="stale"), lease=stale))


async def an_end_that_comes_late_stands_if_nobody_took_over(store: KernelStore) -> None:
    """Clocks that disagree cost a run that is done twice, never an end that is lost."""
    await register(store)
    lease = await hold(store, ttl_ms=100)
    assert (await end(store, lease=lease, now=NOW + 10**6)).record.status == "completed"


async def a_refused_end_leaves_the_lease_as_it_was(store: KernelStore) -> None:
    await register(store)
    lease = await hold(store)
    before = await everything_of(store)
    for event_type, payload, key in (
        ("process.completed", {}, "k"),
        ("process.completed", {"await_output": 1}, None),
        ("process.failed", {"await_output": {"type": "success", "value": 1}}, "k"),
    ):
        try:
            await append(store, event_type, payload, key=key, lease=lease)
        except Exception:
            continue
        raise AssertionError(f"{event_type} with {payload!r} was accepted")
    assert await everything_of(store) == before
    await store.renew_process_lease(lease, now=NOW, ttl_ms=100)


async def a_cancel_before_the_first_run_waits_for_it(store: KernelStore) -> None:
    await register(store)
    await ask_to_cancel(store)
    await hold(store)
    assert await log_of(store) == ["process.cancel_requested"]


async def an_owner_bound_process_is_not_taken_over(store: KernelStore) -> None:
    await register(store, disposition="owner_bound")
    lease = await hold(store, ttl_ms=100)
    assert await busy_process(store, now=NOW + 10**6) == ProcessBusy("me", NOW + 100)
    found = await store.runnable_processes(now=NOW + 100, limit=10)
    assert [record.process_id for record in found] == ["p"]
    # It was handed back: nobody was lost.
    await store.release_process_lease(lease)
    await hold(store, "you")


async def an_owner_bound_process_whose_owner_is_gone_is_abandoned_with_the_evidence(store: KernelStore) -> None:
    await register(store, disposition="owner_bound")
    lease = await hold(store, ttl_ms=100)
    await append(store, lease=lease)
    left = await _abandon(store, NOW + 100)
    evidence = AbandonedOutput(
        message="its owner me is gone", owner_id="me", fencing_token=1, expired_at_ms=NOW + 100, found_by="me"
    )
    assert (left.record.status, left.record.output) == ("abandoned", evidence)
    assert await store.get_process("p") == left.record
    assert await log_of(store) == ["note", "process.abandoned"]
    # The owner was only slow: too late.
    await refused(ProcessLeaseLost, end(store, lease=lease, now=NOW + 101))
    error = await refused(ProcessTerminal, _abandon(store, NOW + 101))
    assert error.status == "abandoned"
    await refused(ProcessTerminal, hold(store, "you", now=NOW + 101))


async def nothing_is_abandoned_without_evidence(store: KernelStore) -> None:
    works: tuple[tuple[str, dict[str, Any]], ...] = (
        ("rerunnable", {}),
        ("owner_bound", {}),
        ("externally_owned", {"kind": "external"}),
    )
    for disposition, more in works:
        await register(store, disposition, disposition=disposition, **more)
        await refused(ProcessNotYours, store.abandon_process(disposition, found_by="me", now=NOW + 10**6, then=ignored))
    lease = await hold(store, process_id="owner_bound", ttl_ms=100)
    await hold(store, process_id="rerunnable", ttl_ms=100)
    for name in ("owner_bound", "rerunnable"):
        await refused(ProcessNotYours, store.abandon_process(name, found_by="me", now=NOW + 99, then=ignored))
    await refused(ProcessNotYours, store.abandon_process("rerunnable", found_by="me", now=NOW + 100, then=ignored))
    await store.release_process_lease(lease)
    await refused(ProcessNotYours, store.abandon_process("owner_bound", found_by="me", now=NOW + 100, then=ignored))
    await refused(ProcessNotFound, store.abandon_process("nobody", found_by="me", now=NOW, then=ignored))
    assert [record.status for record in (await store.list_processes(limit=9, after=None)).processes] == ["running"] * 3


async def each_process_has_a_lease_of_its_own(store: KernelStore) -> None:
    for name in ("p", "q"):
        await register(store, name)
    mine = await hold(store, token="same")
    yours = await hold(store, "you", process_id="q", token="same")
    await store.release_process_lease(yours)
    await store.renew_process_lease(mine, now=NOW, ttl_ms=100)
    await refused(ProcessLeaseLost, append(store, process_id="q", lease=mine))
