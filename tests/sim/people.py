"""Those who are asked: somebody answers every request after a while, at whatever worker there is.

The answer follows from the request, so that a world is the same every time. Now and then two people answer at once.
What was acknowledged must be in the store; who comes too late must be told.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from sightline.errors import Conflict, NotFound, SessionDeleted, Unavailable
from sightline.kernel import Kernel
from sightline.session.model import Request
from tests.sim.effects import delay_of
from tests.sim.ledger import Law, Violation
from tests.sim.lives import Gone

if TYPE_CHECKING:
    from tests.sim.world import World

__all__ = ["People", "insist"]

_LONGEST = 4.0
"""Seconds until somebody answers: longer than a lease at times."""
_T = TypeVar("_T")


async def insist(world: World, request: Callable[[Kernel], Coroutine[Any, Any, _T]], *who: object) -> _T:
    """Ask again and again, at whatever worker there is, until one answers.

    Raises what the kernel raises, but for what only says that it cannot answer now.
    """
    seed = world.plan.seed
    at = int(delay_of(seed, "people", *who) * 1_000)
    while True:
        at += 1
        # Two never wake at the same moment.
        await asyncio.sleep(0.001 + 0.02 * delay_of(seed, "people", *who, at))
        life = world.slots[at % len(world.slots)].life
        try:
            if life is None:
                raise Gone
            return await life.ask(request, 5.0)
        except (Gone, Unavailable):
            await asyncio.sleep(0.2)


class People:
    def __init__(self, world: World) -> None:
        self._world = world
        self._asked: set[str] = set()

    def asked(self, session_id: str, request: Request) -> None:
        """A request is open in the store."""
        if request.request_id in self._asked:
            return
        self._asked.add(request.request_id)
        draw = self._draw(request.request_id)
        self._world.spawn(self._answer(session_id, request.request_id, "one", draw * draw * _LONGEST))
        if draw > 0.7:
            self._world.spawn(self._answer(session_id, request.request_id, "two", draw * draw * _LONGEST))

    async def _answer(self, session_id: str, request_id: str, who: str, after: float) -> None:
        await asyncio.sleep(after)
        said = f"{who} says to {request_id}"
        try:
            await insist(self._world, lambda kernel: kernel.answer(session_id, request_id, said), request_id, who)
        except (Conflict, NotFound, SessionDeleted):
            return
        self._check(session_id, request_id, said)

    def _check(self, session_id: str, request_id: str, said: str) -> None:
        book = self._world.ledger.books.get(session_id)
        question = None if book is None else book.questions.get(request_id)
        # Once its turn has ended it may be forgotten.
        if book is not None and question is not None and question.answer != f'"{said}"':
            raise Violation(Law.ASKED, f"{request_id} is acknowledged as {said!r}, and is {question.answer}")

    def _draw(self, *what: object) -> float:
        return delay_of(self._world.plan.seed, "people", *what)
