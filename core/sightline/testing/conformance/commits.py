"""What a store promises about the commit of a turn: `sightline.turn.commit`."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from sightline.errors import ClaimExpired, HeadConflict, SessionNotFound, TurnCommitConflict
from sightline.kernel import KernelStore
from sightline.observation.activities import Outcome
from sightline.queue.model import BatchState, Claim, Completion, Group, SlotPolicy
from sightline.session.model import Failure, Usage, UsageFigures
from sightline.testing.conformance.steps import (
    NOW,
    abandon,
    claim,
    commit,
    commit_of,
    enqueue,
    everything,
    message,
    new_session,
    refused,
    run_turn,
)
from sightline.turn.commit import CommitResult, TurnCommit

_JOIN: dict[str, Any] = {"slot_policy": SlotPolicy.JOIN, "merge_key": Group("g")}


async def a_commit_writes_the_turn_and_ends_its_work(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    spoken = (message("m1", content="question"), message("m2", content="answer"))
    work = commit_of(held, revision=0, messages=spoken, now=NOW + 7)
    told: list[CommitResult] = []
    result = await store.commit(work, told.append)
    assert told == [result]
    assert (result.revision, result.turn_index, result.agent_frame_id) == (1, 1, "initial")
    state = await store.load_session("s", 10)
    assert state.messages == spoken
    assert state.open_batches == ()
    record = state.record
    assert (record.revision, record.turn_index) == (1, 1)
    assert (record.title, record.updated_at_ms, record.created_at_ms) == ("title", NOW + 7, NOW)
    assert record.usage == work.usage
    batch = await store.get_batch("s", "s:work")
    assert (batch.state, batch.turn_id, batch.attempts) == (BatchState.COMPLETED, "t1", 1)


async def the_outcome_decides_how_the_work_ended(store: KernelStore) -> None:
    await new_session(store)
    failure = Failure("agent_error", "it “broke”")
    for revision, (outcome, state) in enumerate(
        (
            (Outcome(status="completed"), BatchState.COMPLETED),
            (Outcome(status="cancelled", reason="enough"), BatchState.CANCELLED),
            (Outcome(status="failed", error=failure), BatchState.FAILED),
        )
    ):
        await enqueue(store, outcome.status)
        await run_turn(store, revision=revision, turn=outcome.status, outcome=outcome)
        batch = await store.get_batch("s", f"s:{outcome.status}")
        assert (batch.state, batch.error) == (state, outcome.error)


async def a_turn_that_never_ran_is_not_charged(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    await abandon(store, await claim(store))
    await run_turn(store, revision=0, charge=False)
    assert (await store.get_batch("s", "s:work")).attempts == 1


def _used(figures: UsageFigures, model: str) -> Usage:
    return Usage(figures, {model: figures}, {"agent": {model: figures}})


async def usage_adds_up_in_total_and_by_model(store: KernelStore) -> None:
    await new_session(store)
    figures = UsageFigures(input_tokens=1, output_tokens=2, cached_input_tokens=3, reasoning_tokens=4, requests=5)
    for revision, model in enumerate(("a", "b", "a")):
        await enqueue(store, str(revision))
        await run_turn(store, revision=revision, turn=f"t{revision}", usage=_used(figures, model))
    usage = (await store.load_session("s", 1)).record.usage
    assert usage.totals == UsageFigures(3, 6, 9, 12, 15)
    assert usage.by_model == {"a": UsageFigures(2, 4, 6, 8, 10), "b": figures}
    assert usage.by_source == {"agent": usage.by_model}


async def the_same_commit_again_gets_the_first_result_and_writes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    work = commit_of(held, revision=0)
    first = await commit(store, work)
    await enqueue(store, "next")
    await run_turn(store, revision=1, turn="t2")
    before = await everything(store)
    # The claim is gone and the head has moved: the stamp is looked at first.
    assert await commit(store, work) == first
    assert await everything(store) == before


async def a_repeated_commit_may_differ_in_ids_times_and_the_expected_revision(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0)
    first = await commit(store, work)
    again = structs.replace(
        work,
        now=NOW + 99,
        expected_revision=7,
        title="other",
        messages=tuple(structs.replace(m, message_id="new", at_ms=5) for m in work.messages),
    )
    assert await commit(store, again) == first


async def another_content_under_the_same_turn_is_a_conflict(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    work = commit_of(await claim(store), revision=0)
    await commit(store, work)
    before = await everything(store)
    for other in (
        structs.replace(work, messages=(message("m", content="other"),)),
        structs.replace(work, messages=()),
        structs.replace(work, outcome=Outcome(status="cancelled")),
        structs.replace(work, usage=Usage()),
    ):
        error = await refused(TurnCommitConflict, commit(store, other))
        assert (error.session_id, error.turn_id) == ("s", "t1")
    assert await everything(store) == before


async def a_commit_from_another_revision_writes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "one")
    await run_turn(store, revision=0)
    await enqueue(store, "two")
    held = await claim(store, turn="t2")
    before = await everything(store)
    for revision in (0, 2):
        error = await refused(HeadConflict, commit(store, commit_of(held, revision=revision)))
        assert (error.expected, error.actual) == (revision, 1)
    assert await everything(store) == before
    await commit(store, commit_of(held, revision=1))


async def the_head_is_looked_at_before_the_claims(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, token="old", ttl_ms=0)
    await claim(store, token="new")
    await refused(HeadConflict, commit(store, commit_of(stale, revision=5)))
    await refused(ClaimExpired, commit(store, commit_of(stale, revision=0)))


async def a_superseded_owner_changes_nothing(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    stale = await claim(store, token="old", ttl_ms=0)
    current = await claim(store, token="new")
    before = await everything(store)
    error = await refused(ClaimExpired, commit(store, commit_of(stale, revision=0, says="stale")))
    assert (error.session_id, error.claim_id) == ("s", stale.claim_id)
    assert await everything(store) == before
    await commit(store, commit_of(current, revision=0, says="current"))
    await refused(TurnCommitConflict, commit(store, commit_of(stale, revision=0, says="stale")))


async def an_owner_that_gave_its_work_back_cannot_commit(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    await abandon(store, held)
    await refused(ClaimExpired, commit(store, commit_of(held, revision=0)))


async def a_late_owner_whom_nobody_superseded_may_commit(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store, ttl_ms=1)
    result = await commit(store, commit_of(held, revision=0, now=NOW + 10**9))
    assert result.revision == 1


async def a_commit_completes_its_whole_claim_or_nothing(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name, **_JOIN)
    held = await claim(store)
    before = await everything(store)
    whole = held.completion()
    for batch_ids in (("s:a",), ("s:b",), ("s:a", "s:a"), ("s:a", "s:b", "s:c"), ()):
        part = structs.replace(whole, batch_ids=batch_ids)
        await refused(ClaimExpired, commit(store, _with(held, part)))
    assert await everything(store) == before


async def if_one_claim_of_several_is_lost_none_is_completed(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "mine")
    await enqueue(store, "lost")
    mine = await claim(store, turn="t1", token="mine")
    lost = await claim(store, turn="t2", token="old", ttl_ms=0)
    await claim(store, token="new")
    before = await everything(store)
    await refused(ClaimExpired, commit(store, _with(mine, mine.completion(), lost.completion())))
    assert await everything(store) == before


async def one_commit_completes_a_claim_once(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = await claim(store)
    before = await everything(store)
    twice = _with(held, held.completion(), held.completion())
    for work in (twice, structs.replace(twice, charge=False)):
        await refused(ClaimExpired, commit(store, work))
    assert await everything(store) == before


async def a_commit_completes_only_claims_of_its_own_session(store: KernelStore) -> None:
    await new_session(store)
    await new_session(store, "other")
    await enqueue(store)
    await enqueue(store, session_id="other")
    mine = await claim(store)
    elsewhere = await claim(store, session_id="other")
    before = await everything(store), await everything(store, "other")
    foreign = elsewhere.completion()
    renamed = structs.replace(foreign, session_id="s")
    mislabelled = structs.replace(mine.completion(), session_id="other")
    for completions in ((foreign,), (renamed,), (mislabelled,), (mine.completion(), foreign)):
        await refused(ClaimExpired, commit(store, _with(mine, *completions)))
    assert (await everything(store), await everything(store, "other")) == before


async def a_commit_may_complete_several_claims(store: KernelStore) -> None:
    await new_session(store)
    for name in ("a", "b"):
        await enqueue(store, name)
    first = await claim(store, turn="t1", token="first")
    second = await claim(store, turn="t2", token="second")
    await commit(store, _with(first, first.completion(), second.completion()))
    assert (await store.load_session("s", 1)).open_batches == ()


async def a_turn_may_leave_nothing_behind(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    result = await run_turn(store, revision=0, messages=(), usage=Usage())
    assert result.revision == 1
    state = await store.load_session("s", 10)
    assert (state.messages, state.truncated, state.open_batches) == ((), False, ())


async def a_commit_to_a_session_that_never_was_is_refused(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    held = structs.replace(await claim(store), session_id="nobody")
    await refused(SessionNotFound, commit(store, commit_of(held, revision=0)))


async def a_refused_commit_is_not_told(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    told: list[CommitResult] = []
    work = commit_of(await claim(store), revision=1)
    await refused(HeadConflict, store.commit(work, told.append))
    assert told == []


def _with(held: Claim, *completions: Completion) -> TurnCommit:
    return commit_of(held, revision=0, completions=completions)


async def what_a_turn_used_is_known_for_as_long_as_its_stamp(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store, "a")
    await enqueue(store, "b")
    used = _used(UsageFigures(input_tokens=3, requests=1), "m")
    await run_turn(store, revision=0, turn="t1", usage=used)
    await run_turn(store, revision=1, turn="t2", usage=Usage())
    assert await store.turn_usage("s", "t1") == used
    for session_id, turn_id in (("s", "t2"), ("s", "never"), ("nobody", "t1")):
        assert await store.turn_usage(session_id, turn_id) == Usage()


async def what_was_used_elsewhere_is_counted_once_under_its_key(store: KernelStore) -> None:
    await new_session(store)
    await enqueue(store)
    own, used = _used(UsageFigures(requests=1), "m"), _used(UsageFigures(input_tokens=3, requests=2), "m")
    held = await claim(store)
    told: list[bool] = []
    assert await store.count_usage("s", "key", used, then=told.append)
    assert not await store.count_usage("s", "key", used, then=told.append)
    assert told == [True, False]
    await commit(store, commit_of(held, revision=0, usage=own))
    assert await store.count_usage("s", "another", used, then=told.append)
    record = (await store.load_session("s", 1)).record
    assert (record.revision, record.turn_index) == (1, 1)
    assert record.usage == _used(UsageFigures(input_tokens=6, requests=5), "m")
    await refused(SessionNotFound, store.count_usage("nobody", "key", used, then=told.append))
    assert told == [True, False, True]
