"""What a turn asks of people: opened, answered, withdrawn, across attempts, owners and processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sightline.errors import AlreadyAnswered, InvalidInput, RequestNotFound, SessionDeleted, SessionNotFound
from sightline.kernel import Kernel, Limits
from sightline.observation.cursor import parse
from sightline.observation.events import RequestChanged
from sightline.observation.fold import fold
from sightline.queue.model import BatchState
from sightline.stores.memory import MemoryStore
from sightline.stores.replay_memory import MemoryReplayStore
from sightline.stores.sqlite import SqliteStore
from sightline.testing.clock import ManualClock, settled
from sightline.testing.ids import CountingIds
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import Puppet, Watched, World, in_step, only_batch, running, said, watch

pytestmark = pytest.mark.anyio


async def asks(turn: Turn) -> None:
    """An agent with one question."""
    turn.text(f"answered: {await turn.ask('which?')}")


async def request_of(world: World, session_id: str = "s") -> str:
    [request] = (await world.view(session_id)).requests
    return str(request["request_id"])


async def reply(world: World, said: Any = "yes", session_id: str = "s") -> None:
    """Answer the one request that is open."""
    await world.kernel.answer(session_id, await request_of(world, session_id), said)
    await settled()


def requests_told(watched: Watched) -> list[tuple[str, list[str]]]:
    return [
        (event.data.kind, [request["prompt"] for request in event.data.requests])
        for event in watched.events
        if isinstance(event.data, RequestChanged)
    ]


# The plain course


async def test_a_turn_asks_and_waits_and_goes_on_with_the_answer() -> None:
    async with running(asks) as world:
        watched = await watch(world)
        await world.send("work")
        view = await world.view()
        assert view.status == "waiting"
        [request] = view.requests
        assert view.live is not None
        assert request == {
            "request_id": request["request_id"],
            "turn_id": view.live.turn_id,
            "kind": "question",
            "prompt": "which?",
            "at_ms": world.clock.now_ms(),
        }
        await in_step(world, watched)
        await world.clock.run_for(60.0)
        assert (await world.view()).status == "waiting"
        answered, cursor = await world.kernel.answer("s", request["request_id"], "this one")
        await settled()
        assert answered.prompt == "which?"
        answers = [event for event in watched.events if isinstance(event.data, RequestChanged)]
        assert parse(answers[-1].cursor).position <= parse(cursor).position
        assert {event.turn_id for event in answers} == {request["turn_id"]}
        assert await said(world) == [("user", "work"), ("assistant", "answered: this one")]
        assert requests_told(watched) == [("opened", ["which?"]), ("answered", ["which?"])]
        batch = await only_batch(world)
        assert (batch.state, batch.attempts) == (BatchState.COMPLETED, 1)
        assert (await world.view()).status == "idle"
        await in_step(world, watched)


async def test_what_observers_fold_is_what_there_is_at_every_moment() -> None:
    async with running(asks) as world:
        watched = await watch(world)
        await world.send("work")
        await reply(world, {"any": ["json", None]})
        await world.send("more")
        await world.kernel.cancel_turn("s")
        await settled()
        [first, *later] = watched.views
        folded, told = first, iter(watched.events)
        for view in later:
            while folded.cursor != view.cursor:
                folded = fold(folded, [next(told)])
            assert folded == view


async def test_kind_and_options_are_shown_as_they_were_given() -> None:
    async def agent(turn: Turn) -> None:
        await turn.ask("shall I?", kind="approval", options=("yes", {"no": 1}))

    async with running(agent) as world:
        await world.send("work")
        [request] = (await world.view()).requests
        assert (request["kind"], request["options"]) == ("approval", ["yes", {"no": 1}])


@pytest.mark.parametrize("answer", ["text", "", 0, False, None, [], {"a": [1, {"b": None}]}, 1.5, "ü\n“"])
async def test_any_json_is_an_answer(answer: Any) -> None:
    found = list[Any]()

    async def agent(turn: Turn) -> None:
        found.append(await turn.ask("which?"))

    async with running(agent) as world:
        await world.send("work")
        await reply(world, answer)
        assert found == [answer]


async def test_what_json_cannot_hold_is_no_answer() -> None:
    async with running(asks) as world:
        await world.send("work")
        request_id = await request_of(world)
        with pytest.raises(InvalidInput, match="answer"):
            await world.kernel.answer("s", request_id, object())
        assert (await world.view()).status == "waiting"


async def test_a_second_answer_comes_too_late_also_when_the_turn_has_ended() -> None:
    async with running(asks) as world:
        await world.send("work")
        request_id = await request_of(world)
        await world.kernel.answer("s", request_id, "first")
        for _ in range(2):
            with pytest.raises(AlreadyAnswered):
                await world.kernel.answer("s", request_id, "second")
            await settled()
        assert (await said(world))[-1] == ("assistant", "answered: first")


async def test_of_many_answers_at_once_one_counts() -> None:
    async with running(asks) as world:
        await world.send("work")
        request_id = await request_of(world)
        answers = [world.kernel.answer("s", request_id, number) for number in range(20)]
        came = await asyncio.gather(*answers, return_exceptions=True)
        refused = [error for error in came if isinstance(error, AlreadyAnswered)]
        assert len(refused) == 19


async def test_what_nobody_asked_is_refused() -> None:
    async with running(asks) as world:
        with pytest.raises(RequestNotFound):
            await world.kernel.answer("s", "nothing", 1)
        with pytest.raises(SessionNotFound):
            await world.kernel.answer("nobody", "nothing", 1)
        await world.kernel.delete_session("s")
        with pytest.raises(SessionDeleted):
            await world.kernel.answer("s", "nothing", 1)


async def test_several_requests_are_answered_in_any_order() -> None:
    async def agent(turn: Turn) -> None:
        both = await asyncio.gather(turn.ask("one?", key="one"), turn.ask("two?", key="two"))
        turn.text(" ".join(both))

    async with running(agent) as world:
        watched = await watch(world)
        await world.send("work")
        one, two = [request["request_id"] for request in (await world.view()).requests]
        await world.kernel.answer("s", two, "second")
        view = await world.view()
        assert (view.status, [request["prompt"] for request in view.requests]) == ("waiting", ["one?"])
        await in_step(world, watched)
        await world.kernel.answer("s", one, "first")
        await settled()
        assert (await said(world))[-1] == ("assistant", "first second")


async def test_one_question_asked_twice_at_a_time_is_one_request_with_one_answer() -> None:
    async def agent(turn: Turn) -> None:
        both = await asyncio.gather(turn.ask("which?", key="k"), turn.ask("which?", key="k"))
        turn.text(" ".join(both))

    async with running(agent) as world:
        await world.send("work")
        await reply(world, "this")
        assert (await said(world))[-1] == ("assistant", "this this")


async def test_requests_without_keys_are_told_apart_by_their_order() -> None:
    async def agent(turn: Turn) -> None:
        turn.text(await turn.ask("one?"))
        turn.text(await turn.ask("two?"))

    async with running(agent) as world:
        await world.send("work")
        for answer in ("a", "b"):
            await reply(world, answer)
        assert (await said(world))[-1] == ("assistant", "ab")


@pytest.mark.parametrize(
    "asking", [{"prompt": 7}, {"prompt": "which?", "kind": ""}, {"prompt": "?", "options": [object()]}]
)
async def test_what_is_no_question_fails_the_turn(asking: dict[str, Any]) -> None:
    async def agent(turn: Turn) -> None:
        await turn.ask(**asking)

    async with running(agent) as world:
        await world.send("work")
        batch = await only_batch(world)
        assert batch.state is BatchState.FAILED
        assert "TypeError" in batch.error.message  # type: ignore[union-attr]
        assert (await world.view()).requests == ()


async def test_a_turn_that_nobody_drives_has_nobody_to_ask() -> None:
    turn = Turn(
        session_id="s",
        turn_id="t",
        attempt=1,
        input=(),
        policy={},
        clock=ManualClock(),
        emit=lambda activity, correlation: None,
        history=lambda count: asyncio.sleep(0, ()),
    )
    with pytest.raises(AgentError, match="nobody to ask"):
        await turn.ask("which?")


# Ends without an answer


async def test_cancelling_a_waiting_turn_withdraws_its_request() -> None:
    async with running(asks) as world:
        watched = await watch(world)
        await world.send("work")
        request_id = await request_of(world)
        await world.kernel.cancel_turn("s", reason="enough")
        view = await world.view()
        assert (view.status, view.requests, view.live) == ("idle", (), None)
        assert watched.told[-4:] == ["cancelled", "request_changed", "turn_ended", "committed"]
        assert requests_told(watched) == [("opened", ["which?"]), ("withdrawn", ["which?"])]
        with pytest.raises(RequestNotFound):
            await world.kernel.answer("s", request_id, "late")
        await in_step(world, watched)


async def test_a_turn_that_fails_withdraws_what_it_still_asks_elsewhere() -> None:
    async def agent(turn: Turn) -> None:
        asking = asyncio.create_task(turn.ask("which?"))
        await turn.sleep(1.0)
        asking.cancel()
        raise AgentError("broken")

    async with running(agent) as world:
        watched = await watch(world)
        await world.send("work")
        assert (await world.view()).status == "waiting"
        await world.clock.run_for(1.0)
        assert (await world.view()).requests == ()
        assert (await only_batch(world)).state is BatchState.FAILED
        await in_step(world, watched)


async def test_deleting_its_session_ends_a_waiting_turn() -> None:
    async with running(asks) as world:
        await world.send("work")
        request_id = await request_of(world)
        await world.kernel.delete_session("s")
        await settled()
        assert world.kernel.running_turns == 0
        with pytest.raises(SessionDeleted):
            await world.kernel.answer("s", request_id, "late")
        assert await world.store.answers_to([request_id]) == {}


# Attempts, processes, owners


async def two_lives(
    store: MemoryStore, between: Callable[[World, str], Any], limits: Limits | None = None
) -> tuple[list[Any], list[str]]:
    """Ask in one life of the process, let it be drained, do something, and see what the next life asks and says."""
    async with running(asks, store=store, limits=limits) as first:
        await first.send("work")
        request_id = await request_of(first)
        await first.kernel.drain(60.0)
        await between(first, request_id)
    async with running(asks, store=store, session_ids=(), limits=limits) as second:
        watched = await watch(second)
        await second.clock.run_for(1.0)
        view = await second.view()
        if view.requests:
            assert (view.status, view.requests[0]["request_id"]) == ("waiting", request_id)
            await second.kernel.answer("s", request_id, "after")
        await settled()
        await in_step(second, watched)
        batch = await only_batch(second)
        assert (batch.state, batch.attempts) == (BatchState.COMPLETED, 1)
        return requests_told(watched), [content for _, content in await said(second)]


async def test_draining_hands_a_waiting_turn_back_at_once_and_its_request_stays_open() -> None:
    store = MemoryStore(ManualClock())

    async def look(world: World, request_id: str) -> None:
        batch = await only_batch(world)
        assert (batch.state, batch.attempts) == (BatchState.PENDING, 0)
        [request] = (await world.store.load_session("s", 1)).requests
        assert request.request_id == request_id
        assert (await world.view()).status == "waiting"

    told, spoken = await two_lives(store, look)
    assert told == [("answered", ["which?"])]
    assert spoken == ["work", "answered: after"]


async def test_an_answer_is_taken_while_nobody_runs_the_turn() -> None:
    async def answer(world: World, request_id: str) -> None:
        await world.kernel.answer("s", request_id, "between")

    told, spoken = await two_lives(MemoryStore(ManualClock()), answer)
    assert told == []
    assert spoken == ["work", "answered: between"]


async def test_a_turn_that_comes_to_its_question_while_the_server_drains_is_handed_back_too() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        await world.send("work")
        draining = asyncio.create_task(world.kernel.drain(60.0))
        await settled()
        assert not draining.done()
        await puppet.does(asks)
        await draining
        batch = await only_batch(world)
        assert (batch.state, batch.attempts) == (BatchState.PENDING, 0)
        assert (await world.view()).status == "waiting"


async def test_a_turn_may_wait_through_any_number_of_lives() -> None:
    store = MemoryStore(ManualClock())
    for number in range(5):
        async with running(
            asks, store=store, session_ids=() if number else ("s",), limits=Limits(max_attempts=1)
        ) as world:
            if not number:
                await world.send("work")
            await world.clock.run_for(20.0 + 40.0 * number)
            assert (await world.view()).status == "waiting"
            assert world.kernel.running_turns == 1
            dies(world)
    async with running(asks, store=store, session_ids=()) as world:
        await world.clock.run_for(300.0)
        await reply(world, "at last")
        assert (await said(world))[-1] == ("assistant", "answered: at last")


def dies(world: World) -> None:
    """From now on the store hears nothing of this process any more."""
    for method in ("abandon", "commit", "renew_lease", "renew", "claim", "release_lease"):
        world.faults.fail_before(method, times=1_000)
    world.faults.heal = lambda: None  # type: ignore[method-assign]
    world.clock.advance(0.0) if hasattr(world.clock, "advance") else None


async def test_what_is_asked_again_in_a_retry_is_not_asked_anew() -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("work")
        await puppet.does(asks)
        await reply(world, "this one")
        world.faults.fail_before("commit", times=9)
        await puppet.ends()
        await world.clock.run_for(10.0)
        await puppet.does(asks)
        await puppet.ends()
        assert requests_told(watched) == [("opened", ["which?"]), ("answered", ["which?"])]
        assert (await said(world))[-1] == ("assistant", "answered: this one")
        await in_step(world, watched)


async def test_an_owner_that_was_superseded_hears_no_answer_and_its_successor_does() -> None:
    async with running(asks) as world:
        await world.send("work")
        request_id = await request_of(world)
        later = world.clock.now_ms() + 20_000
        await world.store.acquire_lease("s", owner_id="heir", lease_token="new", now=later, ttl_ms=1)
        await world.clock.run_for(7.0)
        assert world.kernel.running_turns == 0
        await world.clock.run_for(30.0)
        assert world.kernel.running_turns == 1
        [request] = (await world.view()).requests
        assert request["request_id"] == request_id
        await world.kernel.answer("s", request_id, "for the heir")
        await world.clock.run_for(1.0)
        assert (await said(world))[-1] == ("assistant", "answered: for the heir")


async def test_a_request_outlives_its_process_in_a_file(tmp_path: Path) -> None:
    asked = asyncio.Event()
    store = SqliteStore.open(tmp_path / "store.db", "NORMAL")
    async with running(asks, store=store) as world, world.kernel.opened("s") as handle:

        def look() -> None:
            opening.subscription.take(1 << 30)
            if handle.view.requests:
                asked.set()

        opening = handle.open(None, look)
        look()
        await world.send("work")
        await asked.wait()
        [request] = handle.view.requests
    async with running(asks, store=SqliteStore.open(tmp_path / "store.db", "NORMAL"), session_ids=()) as world:
        assert (await world.view()).requests == (request,)
        await world.kernel.answer("s", request["request_id"], "later")
        batch = await only_batch(world)
        ended = await world.kernel.wait_for_batch("s", batch.batch_id, 60.0)
        assert ended.state is BatchState.COMPLETED
        assert (await said(world))[-1] == ("assistant", "answered: later")


# Lost pokes, lost answers


async def test_an_answer_whose_poke_was_lost_is_found_by_a_look() -> None:
    async with running(asks, limits=Limits(poll_interval=0.5)) as world:
        watched = await watch(world)
        await world.send("work")
        request_id = await request_of(world)
        await world.store.answer_request("s", request_id, '"elsewhere"', then=lambda _: None)
        await settled()
        assert (await world.view()).status == "waiting"
        await world.clock.run_for(0.5)
        assert (await said(world))[-1] == ("assistant", "answered: elsewhere")
        assert requests_told(watched) == [("opened", ["which?"]), ("answered", ["which?"])]
        await in_step(world, watched)


async def test_one_look_is_for_all_that_wait_and_none_is_made_when_nobody_does() -> None:
    names = tuple(f"s{number}" for number in range(20))
    async with running(asks, session_ids=names, limits=Limits(poll_interval=0.5)) as world:
        await world.clock.run_for(5.0)
        assert "answers_to" not in world.faults.calls
        for name in names:
            await world.send("work", session_id=name)
        await world.clock.run_for(5.0)
        assert 9 <= world.faults.calls.count("answers_to") <= 11
        for name in names:
            await reply(world, session_id=name)
        await settled()
        assert world.kernel.running_turns == 0
        world.faults.calls.clear()
        await world.clock.run_for(5.0)
        assert world.faults.calls.count("answers_to") == 0


async def test_a_look_that_fails_is_made_again() -> None:
    async with running(asks, limits=Limits(poll_interval=0.5)) as world:
        await world.send("work")
        await world.store.answer_request("s", await request_of(world), "1", then=lambda _: None)
        world.faults.fail_before("answers_to", times=3)
        await world.clock.run_for(1.6)
        assert (await world.view()).status == "waiting"
        await world.clock.run_for(0.5)
        assert (await said(world))[-1] == ("assistant", "answered: 1")


@pytest.mark.parametrize("how", ["before", "after", "untold"])
async def test_a_store_that_is_away_when_a_turn_asks_costs_nothing_but_time(how: str) -> None:
    puppet = Puppet()
    async with running(puppet) as world:
        watched = await watch(world)
        await world.send("work")
        if how == "before":
            world.faults.fail_before("open_request", times=3)
        else:
            world.faults.fail_after("open_request", times=3, told=how == "after")
        await puppet.does(asks)
        await world.clock.run_for(1.0)
        assert requests_told(watched) == [("opened", ["which?"])]
        await reply(world, "yes")
        await puppet.ends()
        assert (await said(world))[-1] == ("assistant", "answered: yes")
        await in_step(world, watched)


async def test_an_answer_that_was_kept_without_a_word_is_found() -> None:
    async with running(asks, limits=Limits(poll_interval=0.5)) as world:
        await world.send("work")
        request_id = await request_of(world)
        world.faults.fail_after("answer_request", told=False)
        with pytest.raises(Exception, match="unavailable"):
            await world.kernel.answer("s", request_id, "yes")
        with pytest.raises(AlreadyAnswered):
            await world.kernel.answer("s", request_id, "again")
        await world.clock.run_for(0.5)
        assert (await said(world))[-1] == ("assistant", "answered: yes")
        assert (await world.view()).requests == ()


async def test_an_agent_that_cannot_ask_is_told_and_the_view_is_put_right() -> None:
    async with running(asks) as world:
        await world.send("work")
        await world.kernel.cancel_turn("s")
        world.faults.fail_after("open_request", times=9, told=False)
        await world.send("more")
        await world.clock.run_for(10.0)
        batches = await world.store.list_batches("s", pending_only=False, limit=10)
        assert [batch.state for batch in batches] == [BatchState.CANCELLED, BatchState.FAILED]
        assert (await world.view()).requests == ()


# Two kernels on one store


async def test_an_answer_given_to_another_kernel_reaches_the_turn() -> None:
    async with running(asks, limits=Limits(poll_interval=0.5)) as world:
        watched = await watch(world)
        await world.send("work")
        request_id = await request_of(world)
        other = Kernel(
            store=world.store,
            replay=MemoryReplayStore(world.clock, world.store.incarnation + 1),
            agent=None,
            clock=world.clock,
            ids=CountingIds("other-"),
        )
        assert (await other.observe("s")).status == "waiting"
        _, cursor = await other.answer("s", request_id, "from afar")
        view = await other.observe("s")
        assert (view.requests, view.cursor) == ((), cursor)
        await world.clock.run_for(0.5)
        assert (await said(world))[-1] == ("assistant", "answered: from afar")
        await in_step(world, watched)
        await other.stop()


async def test_answers_are_forgotten_with_the_work_they_belong_to() -> None:
    async with running(asks, limits=Limits(retention=60.0)) as world:
        await world.send("work")
        request_id = await request_of(world)
        await world.kernel.answer("s", request_id, "yes")
        await settled()
        await world.clock.run_for(30.0)
        with pytest.raises(AlreadyAnswered):
            await world.kernel.answer("s", request_id, "again")
        await world.clock.run_for(60.0)
        with pytest.raises(RequestNotFound):
            await world.kernel.answer("s", request_id, "again")
