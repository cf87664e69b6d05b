"""Trouble on demand: a store, or anything else behind a port, whose calls fail or wait as a test tells them to.

`faulty(store, faults)` is the store again, with every call passing through `faults`. What is planned for a method
applies to its next calls, in the order in which it was planned; a method without a plan is as it always was.

`fail_after` is unrealistic for a call that writes nothing. With `told=False` it is the worst case the ports allow: the
write is durable, neither `then` nor the caller hears of it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from sightline.errors import StoreUnavailable

__all__ = ["Faults", "Gate", "faulty"]

_T = TypeVar("_T")
_Call = Callable[..., Any]
_Plan = Callable[[_Call, tuple[Any, ...], dict[str, Any]], Any]


class Gate:
    """Where a held call waits. `reached` is set when it stands there; `open` lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self._opened = asyncio.Event()

    def open(self) -> None:
        self._opened.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self._opened.wait()


class Faults:
    """What goes wrong, method by method. `calls` lists the names of the methods called so far."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._plans: dict[str, deque[_Plan]] = {}

    def fail_before(self, method: str, *, times: int = 1, error: Exception | None = None) -> None:
        """The next calls raise without having done anything: StoreUnavailable unless told otherwise."""

        def plan(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            raise error or StoreUnavailable(f"{method} failed before it was done")

        self._plan(method, plan, times)

    def fail_after(self, method: str, *, times: int = 1, told: bool = True) -> None:
        """The next calls do their work and then raise StoreUnavailable: the caller cannot know.

        `told`: whether `then` was called, as it is when only the answer to the caller was lost.
        """

        async def plan(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not told:
                args, kwargs = _untold(call, args, kwargs)
            await call(*args, **kwargs)
            raise StoreUnavailable(f"{method} failed after it was done")

        self._plan(method, plan, times)

    def hold(self, method: str) -> Gate:
        """The next call waits at the gate before it does anything."""
        gate = Gate()

        async def plan(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            await gate.pass_through()
            return await call(*args, **kwargs)

        self._plan(method, plan, 1)
        return gate

    def hold_answer(self, method: str) -> Gate:
        """The next call does its work and waits at the gate with the answer."""
        gate = Gate()

        async def plan(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            answer = await call(*args, **kwargs)
            await gate.pass_through()
            return answer

        self._plan(method, plan, 1)
        return gate

    def heal(self) -> None:
        """Forget what was planned and has not happened yet."""
        self._plans.clear()

    def around(self, method: str, call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One call of the store, as it was planned."""
        self.calls.append(method)
        planned = self._plans.get(method)
        return planned.popleft()(call, args, kwargs) if planned else call(*args, **kwargs)

    def _plan(self, method: str, plan: _Plan, times: int) -> None:
        self._plans.setdefault(method, deque()).extend([plan] * times)


def faulty(store: _T, faults: Faults) -> _T:
    """`store`, with every method call passing through `faults`."""
    return cast(_T, _Faulty(store, faults))


class _Faulty:
    def __init__(self, store: object, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not inspect.ismethod(found):
            return found
        if not inspect.iscoroutinefunction(found):
            return lambda *args, **kwargs: self._faults.around(name, found, args, kwargs)

        async def call(*args: Any, **kwargs: Any) -> Any:
            result = self._faults.around(name, found, args, kwargs)
            return await result if isinstance(result, Awaitable) else result

        return call


def _untold(call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    bound = inspect.signature(call).bind(*args, **kwargs)
    bound.arguments["then"] = lambda _: None
    return bound.args, bound.kwargs
