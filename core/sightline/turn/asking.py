"""Asking people: a turn's requests on their way to the store, and the answers on their way back.

An answer reaches the turn that waits for it by a poke. The durable row is the answer: for all that wait in this process
together the store is asked once in a while, and so an answer is found that was given elsewhere, or whose poke was lost.

While anything that a turn asks is open, it holds no place among those that may run at one time; it takes one again
before it goes on with the last answer. What an earlier answer sets going runs beside those that count, as does whatever
was at work when the turn asked: from outside nobody sees whether a task computes or waits. The other way round, whoever
allows one of two calls and goes home would keep a place from others until the morning. The same goes for turns that
wait for the end of a process.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Protocol, TypeVar

from msgspec import UNSET, Struct

from sightline.clock import Clock
from sightline.errors import LeaseLost, StoreUnavailable
from sightline.ids import Ids
from sightline.observation.handle import RuntimeHandle
from sightline.persevering import persistently
from sightline.session.model import Request
from sightline.turn.agent import Question
from sightline.turn.recording import lease_of
from sightline.turn.requests import Asked, RequestStore
from sightline.turn.running import Running

__all__ = ["Asking", "Places"]

_log = logging.getLogger("sightline.turn")

_T = TypeVar("_T")


class Places(Protocol):
    """Who says how many turns may run at one time."""

    def give_way(self, session_id: str) -> None:
        """The session's turn waits for somebody: let another one run meanwhile."""
        ...

    async def take_place(self, session_id: str) -> None:
        """Return when the session's turn may go on, or waits for somebody again. Cancellable at any time."""
        ...

    def insist(self, session_id: str) -> None:
        """The session's turn goes on, and counts again, whether there is a place for it or not."""
        ...


class _Unbounded:
    def give_way(self, session_id: str) -> None:
        pass

    async def take_place(self, session_id: str) -> None:
        pass

    def insist(self, session_id: str) -> None:
        pass


class _Waiter(Struct, eq=False):
    """Who waits for the answer to one request."""

    handle: RuntimeHandle
    running: Running
    answer: asyncio.Future[str]


class Asking:
    """For all turns of one driver, from `start` to `stop`."""

    def __init__(self, store: RequestStore, clock: Clock, ids: Ids, *, poll_interval: float) -> None:
        self._store = store
        self._clock = clock
        self._ids = ids
        self._poll_interval = poll_interval
        self.places: Places = _Unbounded()
        self._waiting: dict[str, list[_Waiter]] = {}
        self._aside: dict[Running, int] = {}
        """Turns that wait for something else, and for how many things."""
        self._anybody = asyncio.Event()
        self._poll: asyncio.Task[None] | None = None
        self._draining = False

    def start(self) -> None:
        self._poll = asyncio.create_task(self._look_for_answers(), name="look for answers")

    async def stop(self) -> None:
        """Look for no more answers; returns when no task is left."""
        if self._poll is not None:
            self._poll.cancel()
            await asyncio.gather(self._poll, return_exceptions=True)
            self._poll = None

    def hand_back(self) -> None:
        """Whoever waits, now or later, gives its work back: this process will not see the answer."""
        self._draining = True
        for running in [*self._aside, *(waiter.running for waiters in self._waiting.values() for waiter in waiters)]:
            _hand_back(running)

    def answered(self, request_id: str, answer: str) -> None:
        """Tell the answer, which is in the store, to whoever waits for it here."""
        for waiter in self._waiting.get(request_id, ()):
            waiter.handle.record_request_answered(request_id)
            if not waiter.answer.done():
                waiter.answer.set_result(answer)

    async def ask(self, handle: RuntimeHandle, running: Running, question: Question) -> str:
        """The answer, as JSON. Raises StoreUnavailable; LeaseLost when another owner runs the turn, which then ends."""
        claim = running.claim
        request = Request(
            request_id=self._ids.new(),
            turn_id=claim.turn_id,
            kind=question.kind,
            prompt=question.prompt,
            options=UNSET if question.options is None else question.options,
            at_ms=self._clock.now_ms(),
        )
        waiters: list[tuple[str, _Waiter]] = []
        left = False

        def opened(asked: Asked) -> None:
            found = asked.request.request_id
            if asked.answer is not None:
                handle.record_request_answered(found)
                return
            running.waited = True
            handle.record_request_opened(asked.request)
            if not left:
                # In the same step: no answer that is given from now on passes by.
                waiters.append((found, self._wait(handle, running, found)))

        try:
            asked = await persistently(
                self._clock,
                f"session {claim.session_id}: a request of turn {claim.turn_id}",
                lambda: self._store.open_request(
                    claim.session_id, request, question.key, lease=lease_of(claim), then=opened
                ),
            )
            if asked.answer is not None:
                return asked.answer
            [(_, waiter)] = waiters[-1:]
            return await self._answer(waiter)
        except LeaseLost:
            running.lose()
            raise
        except StoreUnavailable:
            handle.stale = True  # it may be open without a word
            raise
        finally:
            left = True
            for request_id, waiter in waiters:
                self._leave(request_id, waiter)

    async def aside(self, running: Running, work: Awaitable[_T]) -> _T:
        """Wait for something that goes on without the turn: it holds no place meanwhile, and gives its work back when
        this process has to go. Raises what the work raises.
        """
        session_id = running.claim.session_id
        running.waiting += 1
        self._aside[running] = self._aside.get(running, 0) + 1
        try:
            if self._draining:
                _hand_back(running)
            with running.stopwatch.paused():
                self.places.give_way(session_id)
                came_to = await work
                if running.waiting == 1:
                    await self.places.take_place(session_id)
            return came_to
        finally:
            self._waits_less(running)
            self._aside[running] -= 1
            if not self._aside[running]:
                del self._aside[running]

    def _wait(self, handle: RuntimeHandle, running: Running, request_id: str) -> _Waiter:
        waiter = _Waiter(handle, running, asyncio.get_running_loop().create_future())
        self._waiting.setdefault(request_id, []).append(waiter)
        running.waiting += 1
        self._anybody.set()
        return waiter

    def _leave(self, request_id: str, waiter: _Waiter) -> None:
        self._waits_less(waiter.running)
        waiters = self._waiting[request_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiting[request_id]
        if not self._waiting:
            self._anybody.clear()

    def _waits_less(self, running: Running) -> None:
        running.waiting -= 1
        if not running.waiting and not running.over:
            # Mostly it has its place. Not so where it stopped waiting by itself, for which there is no waiting.
            self.places.insist(running.claim.session_id)

    async def _answer(self, waiter: _Waiter) -> str:
        session_id = waiter.handle.session_id
        if self._draining:
            _hand_back(waiter.running)
        with waiter.running.stopwatch.paused():
            self.places.give_way(session_id)
            answer = await waiter.answer
            if waiter.running.waiting == 1:
                await self.places.take_place(session_id)
        return answer

    async def _look_for_answers(self) -> None:
        while True:
            await self._anybody.wait()
            await self._clock.sleep(self._poll_interval)
            if not self._waiting:
                continue
            try:
                answers = await self._store.answers_to(list(self._waiting))
            except StoreUnavailable as error:
                _log.warning("looking for answers: %s", error)
                continue
            for request_id, answer in answers.items():
                self.answered(request_id, answer)


def _hand_back(running: Running) -> None:
    if not running.stopped.done():
        running.handing_back = True
        running.stop()
