"""The load test: turns in some sessions, observers of them who now and then leave and come back, and what came of it.

It makes sessions of its own and deletes them at the end. Each runs one turn after the other, every turn so many deltas
at a steady pace; so the load is the same on every machine, and what differs is how late things come.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
from msgspec import Struct, field

from sightline.clock import Clock, SystemClock
from sightline.ids import SystemIds
from sightline_gateway.bench.observers import Observer, Transport
from sightline_gateway.bench.tally import Tally, figures
from sightline_gateway.remote import RemoteError, address_of, refused, unreachable

__all__ = ["bench"]

DELTAS = 50
EVERY_MS = 10
DELTA_BYTES = 200
_TURN = f"stream {DELTAS} every {EVERY_MS} size {DELTA_BYTES}"
_TRANSPORTS: tuple[Transport, ...] = ("WebSocket", "SSE")
_RECONNECT_SECONDS = 0.25
"""Between one observer's leaving and the next one's."""
_WAIT_SECONDS = 60
_LATE_SECONDS = 10.0
"""How long observers may take to see the end of the last turn."""
_LOOK_SECONDS = 0.02
_TIMEOUT = httpx.Timeout(10.0, read=_WAIT_SECONDS + 30.0, pool=None)


def bench(arguments: argparse.Namespace) -> int:
    """Run it and print what was found. 1 when something was lost, came twice, or failed. Raises RemoteError."""
    report = asyncio.run(_Load(arguments).run())
    print(json.dumps(report) if arguments.json else _table(report))
    return 0 if report["ok"] else 1


class _Turns(Struct):
    """Of one session: when its turn was asked for, and which are done. Times in seconds."""

    asked: float = 0.0
    seen: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)


class _Load:
    def __init__(self, arguments: argparse.Namespace) -> None:
        self._address = address_of(arguments.url)
        self._seconds: int = arguments.seconds
        self._clock: Clock = SystemClock()
        self._tally = Tally()
        self._whole = array("d")
        self._failures: list[str] = []
        prefix = f"bench-{SystemIds().new()}"
        self._sessions = {f"{prefix}-{number}": _Turns() for number in range(arguments.sessions)}
        self._observers = [
            self._observer(session, transport)
            for session, transport in itertools.islice(_round(list(self._sessions)), arguments.observers)
        ]

    def _observer(self, session: str, transport: Transport) -> Observer:
        turns = self._sessions[session]

        def on_turn(turn_id: str) -> None:
            if turn_id not in turns.seen:
                turns.seen.add(turn_id)
                self._tally.first_frames.append(self._clock.monotonic() - turns.asked)

        return Observer(self._address, session, transport, tally=self._tally, clock=self._clock, on_turn=on_turn)

    async def run(self) -> dict[str, Any]:
        """Raises RemoteError."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(
            base_url=self._address, timeout=_TIMEOUT, limits=limits, trust_env=False
        ) as client:
            try:
                for session in self._sessions:
                    await self._call(client, "PUT", f"/v1/sessions/{session}", json={})
                for observer in self._observers:
                    await observer.open()
                taken = await self._measured(client)
            finally:
                for observer in self._observers:
                    observer.close()
                await self._forget(client)
        return self._report(taken)

    async def _measured(self, client: httpx.AsyncClient) -> float:
        """Put the load on; how long it took."""
        began = self._clock.monotonic()
        until = began + self._seconds
        coming_back = asyncio.create_task(self._come_and_go())
        try:
            await asyncio.gather(
                *(self._one_turn_after_the_other(client, session, until) for session in self._sessions)
            )
        finally:
            coming_back.cancel()
            await asyncio.gather(coming_back, return_exceptions=True)
        taken = self._clock.monotonic() - began
        await self._let_them_finish()
        for observer in self._observers:
            observer.account.settle(self._sessions[observer.session].done, DELTAS)
        return taken

    async def _one_turn_after_the_other(self, client: httpx.AsyncClient, session: str, until: float) -> None:
        turns = self._sessions[session]
        while self._clock.monotonic() < until:
            turns.asked = self._clock.monotonic()
            batch = await self._call(
                *(client, "POST", f"/v1/sessions/{session}/turns"),
                json={"input": _TURN},
                headers={"Prefer": f"wait={_WAIT_SECONDS}"},
            )
            if batch["state"] != "completed":
                why = batch.get("error", {}).get("message", f"still {batch['state']} after {_WAIT_SECONDS} s")
                self._failures.append(str(why))
                return
            self._whole.append(self._clock.monotonic() - turns.asked)
            turns.done.append(batch["turn_id"])

    async def _come_and_go(self) -> None:
        """One observer after the other leaves and comes back; who was cut off comes back at once."""
        for observer in itertools.cycle(self._observers):
            await self._clock.sleep(_RECONNECT_SECONDS)
            await self._come_back(observer)
            for other in self._observers:
                if other.is_cut:
                    await self._come_back(other)

    async def _come_back(self, observer: Observer) -> None:
        if observer.is_cut:
            self._tally.cuts += 1
        observer.close()
        try:
            await observer.open()
        except RemoteError as error:
            self._failures.append(str(error))

    async def _let_them_finish(self) -> None:
        until = self._clock.monotonic() + _LATE_SECONDS
        waiting = list(self._observers)
        while waiting and self._clock.monotonic() < until:
            waiting = [one for one in waiting if not one.account.ended.issuperset(self._sessions[one.session].done)]
            for observer in waiting:
                if observer.is_cut:
                    await self._come_back(observer)
            await self._clock.sleep(_LOOK_SECONDS)

    async def _call(self, client: httpx.AsyncClient, method: str, path: str, **request: Any) -> Any:
        try:
            response = await client.request(method, path, **request)
        except httpx.HTTPError as error:
            raise unreachable(client.base_url, error) from None
        if not response.is_success:
            raise refused(response)
        return response.json()

    async def _forget(self, client: httpx.AsyncClient) -> None:
        """Delete our sessions. What cannot be deleted is said, and hides no other failure."""
        for session in self._sessions:
            try:
                response = await client.delete(f"/v1/sessions/{session}")
            except httpx.HTTPError:
                self._failures.append(f"the sessions {session} and what follows could not be deleted")
                return
            if not response.is_success and response.status_code != httpx.codes.NOT_FOUND:
                self._failures.append(f"session {session} could not be deleted: status {response.status_code}")

    def _report(self, taken: float) -> dict[str, Any]:
        tally = self._tally
        turns = len(self._whole)
        if turns and self._observers and not tally.deliveries:
            self._failures.append("no delta came: is this the demo agent?")
        failures = sorted(set(self._failures))
        return {
            "ok": not (failures or tally.lost or tally.doubled or tally.gaps) and turns > 0,
            "sessions": len(self._sessions),
            "observers": len(self._observers),
            "seconds": round(taken, 3),
            "turns": turns,
            "turns_per_second": round(turns / taken, 1),
            "deliveries": tally.deliveries,
            "deliveries_per_second": round(tally.deliveries / taken, 1),
            "reconnects": len(tally.reconnects),
            "cut_off": tally.cuts,
            "lost": tally.lost,
            "doubled": tally.doubled,
            "gaps": tally.gaps,
            "failures": failures,
            "ms": {
                "first_frame": figures(tally.first_frames),
                "whole_turn": figures(self._whole),
                "delta": figures(tally.delays),
                "reconnect": figures(tally.reconnects),
            },
        }


def _round(sessions: Sequence[str]) -> Iterator[tuple[str, Transport]]:
    """Sessions in turn, and within each the transports in turn, for ever."""
    for lap in itertools.count():
        for place, session in enumerate(sessions):
            yield session, _TRANSPORTS[(lap + place) % len(_TRANSPORTS)]


def _table(report: dict[str, Any]) -> str:
    size = f"{report['sessions']} sessions, {report['observers']} observers, {report['seconds']:.1f} s"
    lines = [
        f"{size}; every turn {DELTAS} deltas of {DELTA_BYTES} bytes, one every {EVERY_MS} ms",
        "",
        f"{'turns':<34}{report['turns']:>10,}{report['turns_per_second']:>12,.1f}/s",
        f"{'deltas delivered':<34}{report['deliveries']:>10,}{report['deliveries_per_second']:>12,.1f}/s",
        f"{'reconnects':<34}{report['reconnects']:>10,}",
        "",
        f"{'':<34}{'p50 ms':>10}{'p90 ms':>10}{'p99 ms':>10}{'max ms':>10}",
    ]
    names = {
        "first_frame": "POST to first frame",
        "whole_turn": "POST to the turn's end",
        "delta": "delta to observer",
        "reconnect": "reconnect, until caught up",
    }
    for name, shown in names.items():
        values = report["ms"][name]
        cells = [f"{values[part]:>10,.1f}" if values else f"{'—':>10}" for part in ("p50", "p90", "p99", "max")]
        lines.append(f"{shown:<34}{''.join(cells)}")
    wrongs = ("lost", "doubled", "gaps", "cut_off")
    lines += ["", ", ".join(f"{name.replace('_', ' ')} {report[name]:,}" for name in wrongs)]
    lines += [f"failed: {failure}" for failure in report["failures"]]
    return "\n".join(lines)
