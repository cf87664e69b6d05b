"""Run worlds by hand: `python -m tests.sim --seeds 0..20000 --jobs 2`, `--seed 77`, `--plan failing.json`.

A world in which a law breaks is minimised, and what happened in it is printed, with the plan that makes it happen
again. The exit code is 1 then. Otherwise `--counts` prints, as JSON, how often what kind of thing happened, and
`--digests` the digest of each world's trace, which is the same wherever and whenever the seed is run.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from tests.sim.draw import draw
from tests.sim.ledger import Violation
from tests.sim.minimise import minimised
from tests.sim.plan import Plan
from tests.sim.world import Verdict, run

__all__ = ["main", "report"]

_GROUP = 100


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    if options.plan is not None:
        plan = msgspec.json.decode(options.plan.read_bytes(), type=Plan)
        return _told(plan, _happen(plan, options.sqlite), trace=True, minimise=False)
    if options.seed is not None:
        plan = draw(options.seed)
        return _told(plan, _happen(plan, options.sqlite), trace=options.trace, minimise=not options.sqlite)
    begin, _, end = options.seeds.partition("..")
    seeds = range(int(begin), int(end))
    return _in_turn(seeds, options) if options.jobs == 1 else _side_by_side(seeds, options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Let seeded worlds happen.")
    parser.add_argument("--seeds", default="0..2000", metavar="FROM..TO", help="a range, without its end (0..2000)")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes share the range (1)")
    parser.add_argument("--seed", type=int, help="one world")
    parser.add_argument("--plan", type=Path, metavar="FILE", help="a world written down as JSON")
    parser.add_argument("--sqlite", action="store_true", help="over a SQLite file, not over the store in memory")
    parser.add_argument("--trace", action="store_true", help="with --seed: print what happens, whatever comes of it")
    parser.add_argument("--counts", action="store_true", help="print what happened how often")
    parser.add_argument("--digests", action="store_true", help="print the digest of every trace")
    return parser


def _in_turn(seeds: range, options: argparse.Namespace) -> int:
    counts: dict[str, int] = {}
    # The garbage of a world is its own; to collect it now and then is cheaper than to look for it all the time.
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number, seed in enumerate(seeds):
            if number % _GROUP == 0:
                gc.collect()
            plan = draw(seed)
            verdict = _happen(plan, options.sqlite, traced=options.digests)
            if verdict.violation is not None:
                return _told(plan, verdict, trace=True, minimise=not options.sqlite)
            if options.digests and verdict.trace is not None:
                print(seed, verdict.trace.digest)
            for what, count in verdict.counts.items():
                counts[what] = counts.get(what, 0) + count
    finally:
        gc.enable()
        gc.unfreeze()
    if options.counts:
        print(msgspec.json.encode(counts, order="sorted").decode())
    elif not options.digests:
        print(f"{seeds.start}..{seeds.stop}: no law was broken")
    return 0


def _side_by_side(seeds: range, options: argparse.Namespace) -> int:
    """Share the range among processes of its own; the counts are added up."""
    size = -(-len(seeds) // options.jobs)
    parts = [seeds[begin : begin + size] for begin in range(0, len(seeds), size)]
    command = [sys.executable, "-m", "tests.sim", "--counts", *(["--sqlite"] if options.sqlite else [])]
    running = [
        subprocess.Popen([*command, "--seeds", f"{part.start}..{part.stop}"], stdout=subprocess.PIPE, text=True)
        for part in parts
    ]
    counts: dict[str, int] = {}
    broken = 0
    for process in running:
        output, _ = process.communicate()
        if process.returncode != 0:
            broken = 1
            print(output)
        else:
            for what, count in msgspec.json.decode(output, type=dict[str, int]).items():
                counts[what] = counts.get(what, 0) + count
    if not broken:
        whole = msgspec.json.encode(counts, order="sorted").decode()
        print(whole if options.counts else f"{seeds.start}..{seeds.stop}: no law was broken")
    return broken


def _happen(plan: Plan, sqlite: bool, *, traced: bool = True) -> Verdict:
    if not sqlite:
        return run(plan, traced=traced)
    with tempfile.TemporaryDirectory(prefix="sim-") as folder:
        return run(plan, traced=traced, database=Path(folder) / "sim.db")


def _told(plan: Plan, verdict: Verdict, *, trace: bool, minimise: bool) -> int:
    if verdict.violation is not None and minimise:
        print(report(plan, verdict.violation))
        return 1
    if trace and verdict.trace is not None:
        print("\n".join(verdict.trace.lines))
    print(f"seed {plan.seed}: {verdict.violation or 'no law was broken'}")
    return 0 if verdict.violation is None else 1


def report(plan: Plan, violation: Violation) -> str:
    """The smallest world that breaks the same law, what happens in it, and how to make it happen again."""

    def breaks(smaller: Plan) -> bool:
        found = run(smaller).violation
        return found is not None and found.law is violation.law

    small = minimised(plan, breaks)
    verdict = run(small, traced=True)
    assert verdict.trace is not None
    return "\n".join(
        [
            f"seed {plan.seed} breaks a law: {violation}",
            "",
            "The smallest world in which that happens:",
            "",
            *verdict.trace.lines,
            "",
            f"The whole world again: python -m tests.sim --seed {plan.seed}",
            "The smallest again: python -m tests.sim --plan FILE, with this in the file:",
            msgspec.json.encode(small).decode(),
        ]
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
