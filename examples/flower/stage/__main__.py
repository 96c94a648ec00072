"""Runs the example: python -m stage. Ends with 1 unless all of it held."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import fedmesh

from .judge import Verdict, judge
from .picture import picture
from .processes import Failed
from .scene import Plan, Seen, play
from .table import table


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m stage", description="Two Flower federations train one model over a mesh; one is killed.")
    parser.add_argument("--fedmesh", type=Path, help="the command; else FEDMESH, the PATH, or bin/fedmesh of the repository")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kill", type=int, default=5, help="the round in whose middle a federation and a peer are killed")
    parser.add_argument("--round-timeout", type=float, help="seconds that a round waits for a federation; else 3 times the slowest round alone, 15 at least")
    parser.add_argument("--dir", type=Path, help="keep all files and logs here; it must not be there yet")
    parser.add_argument("--picture", type=Path, help="draw the accuracies as SVG")
    parser.add_argument("--json", action="store_true", help="print what was seen as JSON in place of the table")
    a = parser.parse_args()
    if not 3 <= a.kill <= a.rounds:
        parser.error(f"--kill is {a.kill}; it must be from 3 to --rounds, {a.rounds}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that all that was started is ended
    with tempfile.TemporaryDirectory(prefix="fedmesh-flower-") as temporary:
        folder = Path(temporary) if a.dir is None else a.dir.absolute()
        if a.dir is not None:
            folder.mkdir(parents=True)
        plan = Plan(folder, a.fedmesh and a.fedmesh.absolute(), a.seed, a.rounds, a.kill, a.round_timeout, progress())
        try:
            seen = play(plan)
        except (Failed, fedmesh.FedmeshError) as e:
            print(f"\nflower: {e}", file=sys.stderr)
            return 1
        v = judge(plan, seen)
        plan.say("")
        print(told(plan, seen, v) if a.json else table(plan, seen, v), end="")
        if a.picture is not None and not v.faults:
            a.picture.write_text(picture(plan, v))
    for fault in v.faults:
        print(f"flower: {fault}", file=sys.stderr)
    if not v.faults and not a.json:
        print("All of it held: one model everywhere in each round, the nearest to the mean of what was pushed; each update once; on after the kills.")
    return 1 if v.faults else 0


def told(plan: Plan, seen: Seen, v: Verdict) -> str:
    run = {"flwr": version("flwr"), "seed": plan.seed, "kill": plan.kill, "round_timeout": seen.round_timeout}
    return json.dumps({**run, **dataclasses.asdict(v)}, indent=2) + "\n"


def progress() -> Callable[[str], None]:
    """One line that is written over, on a terminal only."""
    if not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
