"""The fold law, over the kernel: whatever happens to a session, and wherever an observer begins, snapshot plus events
is snapshot.

A history is drawn, driven through a real kernel, and watched as it happens. At every publication the view is kept as
the server had it at that moment. Then an observer begins at one of these views, chosen at random, gets the events as
JSON, and must meet every later view.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec import structs

from sightline.errors import SightlineError
from sightline.kernel import Limits
from sightline.observation.cursor import parse
from sightline.observation.events import TurnActivity, from_wire
from sightline.observation.fold import Fold, fold
from sightline.observation.merging import merge_events
from sightline.observation.model import Observation, newest
from sightline.queue.model import DeliveryPolicy, Group, SlotPolicy
from sightline.queue.rules import summary_of
from sightline.session.model import ReadView, UsageFigures
from sightline.stores.replay_memory import ReplayBounds
from sightline.testing.clock import settled
from sightline.turn.agent import AgentError, Turn
from tests.core.worlds import Puppet, Watched, World, running, watch

Step = Callable[["World", "Puppet"], Awaitable[None]]

words = st.sampled_from(("word ", "", " ", "\n", "Grüße", "🌍\u2028", '"\\'))


# What can happen


def enqueue(urgent: bool, joins: bool, key: str | None, delay: int) -> Step:
    async def step(world: World, puppet: Puppet) -> None:
        await world.send(
            "work",
            key=key,
            delivery_policy=list(DeliveryPolicy)[not urgent],
            slot_policy=SlotPolicy.JOIN if joins else SlotPolicy.EXCLUSIVE,
            merge_key=Group("g") if joins else "never",
            available_at_ms=world.clock.now_ms() + delay if delay else 0,
        )

    return step


def elsewhere(text: str) -> Step:
    async def step(world: World, puppet: Puppet) -> None:
        await world.send(text or "work", session_id="other")

    return step


def cancel_some_batch(choice: int, onward: bool) -> Step:
    async def step(world: World, puppet: Puppet) -> None:
        batches = await world.kernel.list_batches("s", pending_only=False)
        if batches:
            batch_id = batches[choice % len(batches)].batch_id
            cancel = world.kernel.cancel_from if onward else world.kernel.cancel_batch
            await cancel("s", batch_id)

    return step


def cancel_the_turn(key: str | None) -> Step:
    async def step(world: World, puppet: Puppet) -> None:
        await world.kernel.cancel_turn("s", source_key=key)

    return step


def agent_does(order: Callable[[Turn], Awaitable[None] | None]) -> Step:
    async def step(world: World, puppet: Puppet) -> None:
        if world.kernel.running_turns:
            await puppet.does(order)

    return step


def calls_a_tool(output: object) -> Callable[[Turn], Awaitable[None]]:
    async def order(turn: Turn) -> None:
        async def run() -> object:
            if isinstance(output, AgentError):
                raise output
            return output

        try:
            await turn.tool_call("tool", {"a": [1, None]}, run)
        except AgentError:
            pass

    return order


async def turn_ends(world: World, puppet: Puppet) -> None:
    if world.kernel.running_turns:
        await puppet.ends()


async def turn_fails(world: World, puppet: Puppet) -> None:
    if world.kernel.running_turns:
        await puppet.fails(AgentError("it broke"))


async def attempt_is_lost(world: World, puppet: Puppet) -> None:
    """The store is away for as long as the driver tries; the work is given back and the turn taken again."""
    if world.kernel.running_turns:
        world.faults.fail_before("commit", times=9)
        await puppet.ends()
        await world.clock.run_for(10.0)
        world.faults.heal()


async def time_goes_by(world: World, puppet: Puppet) -> None:
    await world.clock.run_for(1.0)


async def sweep(world: World, puppet: Puppet) -> None:
    await world.kernel.sweep()


keys = st.sampled_from((None, None, "k1", "k2"))
steps = st.one_of(
    st.builds(enqueue, st.booleans(), st.booleans(), keys, st.sampled_from((0, 0, 500))),
    st.builds(elsewhere, words),
    st.builds(cancel_some_batch, st.integers(0, 9), st.booleans()),
    st.builds(cancel_the_turn, keys),
    words.map(lambda text: agent_does(lambda turn: turn.text(text))),
    words.map(lambda text: agent_does(lambda turn: turn.text(text))),
    words.map(lambda text: agent_does(lambda turn: turn.reasoning(text))),
    st.just(agent_does(lambda turn: turn.model_request())),
    st.integers(0, 9).map(lambda n: agent_does(lambda turn: turn.usage(f"model {n % 2}", UsageFigures(n, requests=1)))),
    st.sampled_from(({"x": [1, 2.5]}, None, "text", AgentError("no"))).map(lambda out: agent_does(calls_a_tool(out))),
    st.sampled_from((turn_ends, turn_ends, turn_fails, attempt_is_lost)),
    st.sampled_from((turn_ends, time_goes_by, sweep)),
)


@settings(max_examples=200, deadline=None)
@given(st.data(), st.lists(steps, min_size=5, max_size=30), st.sampled_from((2, 1_000)), st.booleans())
def test_a_snapshot_and_the_events_after_it_are_every_later_snapshot(
    data: st.DataObject, history: list[Step], keep: int, merge: bool
) -> None:
    asyncio.run(live_through(data, [enqueue(False, False, None, 0), *history], keep, ReplayBounds(merge=merge)))


async def live_through(data: st.DataObject, history: list[Step], keep: int, bounds: ReplayBounds) -> None:
    puppet = Puppet()
    limits = Limits(keep_messages=keep)
    async with running(puppet, limits=limits, bounds=bounds, session_ids=("s", "other")) as world:
        watched = await watch(world, "s")
        for step in history:
            try:
                await step(world, puppet)
            except SightlineError:
                pass  # a refusal changes nothing, and that is what is looked at
            await settled()
            await agrees_with_the_store(world, watched.handle.view)
        begin = data.draw(st.integers(0, len(watched.views) - 1), label="begin")
        count = data.draw(st.sampled_from((1_000, 3, 0)), label="messages")
        observer_meets_every_later_view(watched, begin, count)
        replay_is_what_was_seen_live(world, watched, begin)
        for kind in {
            type(seen.data.event if isinstance(seen.data, TurnActivity) else seen.data) for seen in watched.events
        }:
            event(kind.__name__)


async def agrees_with_the_store(world: World, view: Observation) -> None:
    """The view is not only in step with its events, it is also true."""
    state = await world.store.load_session("s", len(view.read_view.messages))
    assert view.read_view.messages == state.messages
    assert view.read_view.truncated == state.truncated
    assert view.queue == tuple(summary_of(batch) for batch in state.open_batches)
    assert (view.revision, view.usage) == (state.record.revision, state.record.usage)
    assert view.read_view.turn_index == state.record.turn_index


def observer_meets_every_later_view(watched: Watched, begin: int, count: int) -> None:
    """Everybody gets a snapshot as JSON, perhaps cut to its newest messages, and then the events."""
    start = newest(watched.views[begin], count)
    observer = Fold(msgspec.json.decode(msgspec.json.encode(start), type=Observation))
    places = {seen.cursor: place for place, seen in enumerate(watched.events, 1)}
    here = places.get(start.cursor, 0)
    for view in watched.views[begin + 1 :]:
        there = places[view.cursor]
        for seen in watched.events[here:there]:
            observer.apply(seen)
        here = there
        assert_equal_snapshots(observer.observation(), view)
    assert_equal_snapshots(fold(start, watched.events[places.get(start.cursor, 0) :]), watched.views[-1])


def replay_is_what_was_seen_live(world: World, watched: Watched, begin: int) -> None:
    entries = world.replay.replay_after(parse(watched.views[begin].cursor), watched.views[-1].revision)
    assert not isinstance(entries, str), entries
    replayed = [from_wire(msgspec.json.decode(entry.payload)) for entry in entries]
    missed = [
        seen for seen in watched.events if parse(seen.cursor).position > parse(watched.views[begin].cursor).position
    ]
    assert merge_events(replayed) == merge_events(missed)
    assert replayed == missed or len(replayed) < len(missed)
    assert_equal_snapshots(fold(watched.views[begin], replayed), watched.views[-1])


def assert_equal_snapshots(mine: Observation, servers: Observation) -> None:
    """Equal in everything; of the messages, those that both have, which is all unless one of them was cut."""
    common = min(len(mine.read_view.messages), len(servers.read_view.messages))
    if not mine.read_view.truncated and not servers.read_view.truncated:
        assert mine == servers
    assert suffix(mine, common) == suffix(servers, common)


def suffix(view: Observation, count: int) -> Observation:
    messages = view.read_view.messages
    kept = messages[len(messages) - count :]
    cut = structs.replace(view.read_view, messages=kept, truncated=False)
    assert isinstance(cut, ReadView)
    return structs.replace(view, read_view=cut)
