"""Python functions as processes: what they may do, and what outlives an attempt."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sightline.process.appending import signal
from sightline.process.attaching import MAX_INLINE
from sightline.process.functions import (
    FunctionEngine,
    Functions,
    ProcessError,
    RunningProcess,
    function_registration,
)
from sightline.process.model import AwaitOutput, FailureOutput, ProcessScope, SuccessOutput
from sightline.testing.clock import settled
from sightline.testing.conformance.process_steps import HERE, end, external, log_of, offer_process, wakes
from sightline.testing.conformance.steps import ignored
from tests.core.process.workers import MakeStore, Place, both_stores, working

pytestmark = pytest.mark.anyio


async def begin(
    place: Place, name: str, args: dict[str, Any] | None = None, *, owner: ProcessScope | None = HERE
) -> None:
    await offer_process(place.store, function_registration("p", name, args, owner=owner))
    await place.look()


async def restarted(place: Place, functions: Functions) -> AwaitOutput:
    """What the process comes to when its worker stops in the middle and another one takes over."""
    await place.worker.stop()
    second = place.another(FunctionEngine(functions))
    second.start()
    await second.claim_and_run_pending()
    try:
        return await place.end_of()
    finally:
        await second.stop()


async def told(place: Place, event_type: str) -> list[Any]:
    events = await place.store.list_process_events("p", after=0, limit=100, event_type=event_type)
    return [event.payload for event in events]


@both_stores
async def test_a_function_is_called_with_its_arguments_and_its_return_is_the_output(
    make: MakeStore, tmp_path: Path
) -> None:
    functions = Functions()

    @functions.process("add")
    async def add(process: RunningProcess, a: int, b: int = 2) -> dict[str, Any]:
        return {"sum": a + b, "attempt": process.attempt, "id": process.process_id}

    async with working(make, tmp_path, functions=functions) as place:
        await begin(place, "add", {"a": 1})
        assert await place.end_of() == SuccessOutput(value={"sum": 3, "attempt": 1, "id": "p"})


async def test_arguments_that_do_not_fit_are_told_without_a_call() -> None:
    functions = Functions()

    @functions.process("add")
    async def add(process: RunningProcess, a: int) -> None:
        raise AssertionError

    async with working(functions=functions) as place:
        await begin(place, "add", {"b": 1})
        output = await place.end_of()
        assert isinstance(output, FailureOutput)
        assert output.code == "invalid_arguments"
        assert output.message.startswith("add: ")


async def test_a_function_says_in_its_own_words_why_it_failed() -> None:
    functions = Functions()

    @functions.process("fail")
    async def fail(process: RunningProcess) -> None:
        raise ProcessError("no such page", code="not_found")

    async with working(functions=functions) as place:
        await begin(place, "fail")
        assert await place.end_of() == FailureOutput(code="not_found", message="no such page")


async def test_what_json_cannot_hold_is_a_failure() -> None:
    functions = Functions()

    @functions.process("odd")
    async def odd(process: RunningProcess) -> object:
        return object()

    async with working(functions=functions) as place:
        await begin(place, "odd")
        output = await place.end_of()
        assert isinstance(output, FailureOutput)
        assert output.message.startswith("TypeError: ")


async def test_a_function_that_is_not_here_is_left_to_others() -> None:
    async with working(functions=Functions()) as place:
        await begin(place, "elsewhere")
        await place.idle()
        [free] = await place.store.runnable_processes(now=place.now, limit=10)
        assert free.attempts == 0


@both_stores
async def test_progress_is_logged_in_order(make: MakeStore, tmp_path: Path) -> None:
    functions = Functions()

    @functions.process("count")
    async def count(process: RunningProcess, to: int) -> None:
        for done in range(1, to + 1):
            await process.progress({"done": done})

    async with working(make, tmp_path, functions=functions) as place:
        await begin(place, "count", {"to": 3})
        await place.end_of()
        assert await told(place, "progress") == [{"done": 1}, {"done": 2}, {"done": 3}]
        assert await log_of(place.store) == ["progress"] * 3 + ["process.completed"]


@both_stores
async def test_a_wake_is_asked_for_once_whatever_a_later_attempt_says(make: MakeStore, tmp_path: Path) -> None:
    functions, calls, stand = Functions(), [0], asyncio.Event()

    @functions.process("waker")
    async def waker(process: RunningProcess) -> None:
        calls[0] += 1
        await process.wake(f"call {calls[0]}")
        if calls[0] == 1:
            stand.set()
            await asyncio.Event().wait()

    async with working(make, tmp_path, functions=functions) as place:
        await begin(place, "waker")
        await stand.wait()
        assert await restarted(place, functions) == SuccessOutput(value=None)
        assert calls == [2]
        assert await wakes(place.store) == [("s", "call 1")]


async def test_a_process_without_an_owner_can_wake_nobody() -> None:
    functions = Functions()

    @functions.process("waker")
    async def waker(process: RunningProcess) -> None:
        await process.wake("hello")

    async with working(functions=functions) as place:
        await begin(place, "waker", owner=None)
        output = await place.end_of()
        assert isinstance(output, FailureOutput)
        assert "not declared" in output.message


@both_stores
async def test_what_was_done_is_not_done_again_by_the_next_attempt(make: MakeStore, tmp_path: Path) -> None:
    functions, done, stand = Functions(), [0], asyncio.Event()

    @functions.process("pay")
    async def pay(process: RunningProcess) -> Any:
        def transfer() -> dict[str, int]:
            done[0] += 1
            return {"receipt": done[0]}

        receipt = await process.idempotent("transfer", transfer)
        if not stand.is_set():
            stand.set()
            await asyncio.Event().wait()
        return receipt

    async with working(make, tmp_path, functions=functions) as place:
        await begin(place, "pay")
        await stand.wait()
        assert await restarted(place, functions) == SuccessOutput(value={"receipt": 1})
        assert done == [1]


async def test_two_calls_with_one_key_do_it_once_and_an_exception_is_not_kept() -> None:
    functions, tries = Functions(), [0]

    @functions.process("twice")
    async def twice(process: RunningProcess) -> Any:
        async def fetch() -> str:
            tries[0] += 1
            await asyncio.sleep(0)
            if tries[0] == 1:
                raise ValueError("no page")
            return "page"

        with pytest.raises(ValueError, match="no page"):
            await process.idempotent("fetch", fetch)
        pages = await asyncio.gather(process.idempotent("fetch", fetch), process.idempotent("fetch", fetch))
        return [*pages, tries[0]]

    async with working(functions=functions) as place:
        await begin(place, "twice")
        assert await place.end_of() == SuccessOutput(value=["page", "page", 2])


async def test_a_sleep_ends_at_its_time_and_takes_no_place_meanwhile() -> None:
    functions = Functions()

    @functions.process("sleep")
    async def sleep(process: RunningProcess) -> None:
        await process.sleep(3600.0)

    async with working(functions=functions) as place:
        await begin(place, "sleep")
        await place.clock.run_for(3599.0)
        assert (await place.store.get_process("p")).status == "running"
        await place.clock.run_for(1.1)
        assert (await place.store.get_process("p")).status == "completed"


async def test_what_was_slept_before_a_restart_is_not_slept_again() -> None:
    functions = Functions()

    @functions.process("sleep")
    async def sleep(process: RunningProcess) -> int:
        await process.sleep(100.0)
        return process.clock.now_ms()

    async with working(functions=functions) as place:
        began = place.now
        await begin(place, "sleep")
        await place.clock.run_for(60.0)
        await place.worker.stop()
        second = place.another(FunctionEngine(functions))
        second.start()
        await second.claim_and_run_pending()
        await place.clock.run_for(41.0)
        await second.stop()
        output = (await place.store.get_process("p")).output
        assert isinstance(output, SuccessOutput)
        assert output.value == began + 100_000


async def test_signals_come_in_order_and_from_the_first_in_each_attempt() -> None:
    functions, heard = Functions(), list[Any]()

    @functions.process("listen")
    async def listen(process: RunningProcess) -> list[Any]:
        got = [await process.signal(), await process.signal()]
        heard.append(got)
        return [*got, await process.signal()]

    async def tell(place: Place, word: str) -> None:
        await place.store.append_event("p", signal("p", word, word), now=place.now, then=ignored)
        place.waits.changed("p")
        await settled()

    async with working(functions=functions) as place:
        await begin(place, "listen")
        await tell(place, "a")
        await tell(place, "b")
        await place.worker.stop()
        second = place.another(FunctionEngine(functions))
        second.start()
        await second.claim_and_run_pending()
        await settled()
        await tell(place, "c")
        assert await place.end_of() == SuccessOutput(value=["a", "b", "c"])
        assert heard == [["a", "b"]] * 2
        await second.stop()


async def test_a_function_awaits_another_process() -> None:
    functions = Functions()

    @functions.process("parent")
    async def parent(process: RunningProcess) -> Any:
        output = await process.end_of("child")
        assert isinstance(output, SuccessOutput)
        return output.value

    async with working(functions=functions) as place:
        await offer_process(place.store, external("child"))
        await begin(place, "parent")
        await settled()
        await end(place.store, process_id="child")
        place.waits.changed("child")
        assert await place.end_of() == SuccessOutput(value="done")


async def test_a_store_that_is_away_for_a_moment_is_not_noticed() -> None:
    functions = Functions()

    @functions.process("count")
    async def count(process: RunningProcess) -> str:
        await process.progress(1)
        return await process.idempotent("do", lambda: "did")  # type: ignore[no-any-return]

    async with working(functions=functions) as place:
        place.faults.fail_before("append_event", times=2)
        await begin(place, "count")
        await place.clock.run_for(5.0)
        assert (await place.store.get_process("p")).output == SuccessOutput(value="did")
        assert await log_of(place.store) == ["progress", "process.noted", "process.completed"]


@pytest.mark.parametrize("name", ["", "  "])
def test_a_function_has_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        Functions().process(name)


def test_a_name_is_one_function_and_that_is_async() -> None:
    functions = Functions()

    @functions.process("one")
    async def one(process: RunningProcess) -> None: ...

    plain: Any = print
    with pytest.raises(ValueError, match="already"):
        functions.process("one")(one)
    with pytest.raises(TypeError, match="async"):
        functions.process("two")(plain)


# What is too large for the log


@both_stores
async def test_large_values_reach_whoever_they_are_for_whole(make: MakeStore, tmp_path: Path) -> None:
    functions, began, done = Functions(), asyncio.Event(), list[str]()
    large = {"page": "x" * MAX_INLINE}

    def effect() -> Any:
        done.append("once")
        return {**large, "done": len(done)}

    @functions.process("carry")
    async def carry(process: RunningProcess) -> Any:
        got = await process.signal()
        kept = await process.idempotent("effect", effect)
        if not began.is_set():
            began.set()
            await asyncio.Event().wait()
        return [got, kept]

    async with working(make, tmp_path, functions=functions) as place:
        await begin(place, "carry")
        await place.store.append_event("p", signal("p", "one", large), now=place.now, then=ignored)
        async with asyncio.timeout(20):
            await began.wait()
        assert await restarted(place, functions) == SuccessOutput(value=[large, {**large, "done": 1}])
        events = await place.store.list_process_events("p", after=0, limit=100)
        assert sum(len(msgspec.json.encode(event)) for event in events) < 5_000


async def test_an_output_beyond_the_limit_is_a_failure_that_says_so() -> None:
    functions = Functions()

    @functions.process("too much")
    async def too_much(process: RunningProcess) -> str:
        return "x" * (1 << 20)

    async with working(functions=functions) as place:
        await begin(place, "too much")
        output = await place.end_of()
        assert isinstance(output, FailureOutput)
        assert output.code == "invalid_output"
        assert "1048576 is the limit" in output.message
