"""What a piece of text costs the kernel, from `turn.text` to the encoded event, when nobody watches."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from collections.abc import Sequence

import uvloop

from sightline.kernel import Kernel, Limits
from sightline.queue.model import Draft, TextItem, TurnInput, TurnInputPayload
from sightline.turn.agent import Turn
from tests.bench.generator import EVENT_BYTES
from tests.bench.measuring import Options, Sample, Subject, collect_seldom
from tests.bench.page import Column, Section, Target
from tests.bench.processes import json_of

__all__ = ["SECTION", "cost"]

GOAL_US = 15.0
EACH = "every piece an event"
JOINED = "a flush window of 20 ms"
_WINDOWS = {EACH: 0.0, JOINED: 0.02}
_BREATH = 32


async def cost(deltas: int, flush_window: float) -> Sample:
    """Of one piece in a turn that says so many: what the agent's loop costs is in it."""
    spent: list[float] = []
    piece = "." * EVENT_BYTES

    async def agent(turn: Turn) -> None:
        before = time.process_time()
        for number in range(deltas):
            turn.text(piece)
            if number % _BREATH == 0:
                await turn.sleep(0)
        turn.flush()
        spent.append(time.process_time() - before)

    # On memory: nothing but the turn's text is written while it is measured.
    kernel = Kernel(agent=agent, limits=Limits(flush_window=flush_window))
    await kernel.start()
    try:
        session_id = (await kernel.create_session()).session_id
        work = TurnInputPayload(TurnInput((TextItem("go"),)))
        written = await kernel.enqueue(Draft(session_id=session_id, payloads=(work,)))
        batch = await kernel.wait_for_batch(session_id, written.batch.batch_id, timeout=300)
        assert batch.state == "completed", batch
    finally:
        await kernel.stop()
    return {"us": spent[0] / deltas * 1e6, "rate": deltas / spent[0]}


def subjects(options: Options) -> Sequence[Subject]:
    def subject(name: str) -> Subject:
        async def measure() -> Sample:
            found: Sample = await json_of(
                "tests.bench.overhead", "--deltas", str(options.deltas), "--flush-window", str(_WINDOWS[name])
            )
            return found

        return Subject(name, measure)

    return [subject(name) for name in _WINDOWS]


SECTION = Section(
    name="overhead",
    title="A piece of text without observers",
    method=f"""\
What it costs that an agent says {EVENT_BYTES} bytes with `turn.text` and nobody watches: the piece is made an activity
and an event, gets its position, is encoded, folded into the session's state and kept for those who come back. A
kernel of its own in one process, with uvloop, on one core; the agent says the same piece over and over and lets
others run after every {_BREATH}. With a flush window (`--flush-window`) saying it is an append, and an event holds all
that was said meanwhile.

Where the time goes when every piece is an event, by Python's profiler (in November 2026): the log, which gives the
position, keeps the entry and drops the oldest, 38 %; making the event and encoding it 28 %, of which the encoder has
a sixth; the fold 15 %; the turn, which makes the activity and remembers what was said, the rest.""",
    subjects=subjects,
    heading="",
    columns=(Column("us", "CPU µs for one"), Column("rate", "pieces per CPU second")),
    amount=lambda options: f"{options.deltas:,} pieces each",
    targets=(
        Target(
            f"from `turn.text` to the encoded event, {EACH}: below {GOAL_US:g} µs",
            lambda rows: rows.median(EACH, "us"),
            below=GOAL_US,
            unit="µs",
        ),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--deltas", type=int, required=True)
    parser.add_argument("--flush-window", type=float, required=True)
    given = parser.parse_args()
    collect_seldom()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(cost(given.deltas, given.flush_window))))


if __name__ == "__main__":
    main()
