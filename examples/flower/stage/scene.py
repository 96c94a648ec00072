"""What happens: each federation by itself, then both over the mesh, with two kills in the middle."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import fedmesh
from fedmesh.local import LocalMesh

from . import data
from .federation import Federation, connections, environment
from .processes import Crew, Failed, until

SURVIVOR, VICTIM, PEER = "north", "south", "a"  # PEER is the one that SURVIVOR talks to
SESSION = "digits"


@dataclass(frozen=True)
class Plan:
    """Numbers of a run."""

    folder: Path
    binary: Path | None
    seed: int
    rounds: int
    kill: int  # the round in whose middle things are killed
    round_timeout: float | None  # None: as the rounds alone show
    say: Callable[[str], None]

    def report(self, run: str, federation: str) -> Path:
        return self.folder / "reports" / run / federation


@dataclass(frozen=True)
class Seen:
    """What the judge needs to know of a run, beside the files."""

    killed: list[str]  # commands
    killed_at: float
    rounds: list[fedmesh.Round]
    models: dict[tuple[str, int], fedmesh.Model]  # of each peer that lives, by round
    round_timeout: float


def play(plan: Plan) -> Seen:
    for name in ("home", "logs", "data", "reports", "peers"):
        (plan.folder / name).mkdir(parents=True, exist_ok=True)
    data.deal(data.folder(), plan.folder / "data", plan.seed)
    crew = Crew(plan.folder / "logs", environment(plan.folder / "home"))
    try:
        plan.say("starting three peers, two SuperLinks, five SuperNodes")
        federations = [Federation(crew, name, nodes, plan.folder / "data", plan.seed) for name, nodes in data.NODES.items()]
        connections(plan.folder / "home", federations)
        with LocalMesh(plan.binary, folder=plan.folder / "peers") as peers:
            for f in federations:
                f.ready()
            submit(plan, "alone", federations, {})
            for f in federations:
                wait(plan, "alone", f.name, plan.rounds, crew)
            return together(plan, federations, peers, crew)
    finally:
        crew.end()


def together(plan: Plan, federations: list[Federation], peers: LocalMesh, crew: Crew) -> Seen:
    """Both over the mesh, each beginning with a peer of its own."""
    order = {SURVIVOR: peers.urls, VICTIM: peers.urls[1:] + peers.urls[:1]}
    timeout = plan.round_timeout or patient(plan)
    submit(plan, "mesh", federations, {f.name: ",".join(order[f.name]) for f in federations}, timeout)
    for name in data.NODES:
        wait(plan, "mesh", name, plan.kill - 1, crew, timeout)
    kept = plan.report("mesh", VICTIM)
    until(lambda: any(kept.glob(f"{plan.kill - 1}-*.npz")), f"{VICTIM}'s nodes have not trained in round {plan.kill}", 600, 0.02)
    plan.say(f"round {plan.kill}: a node of {VICTIM} has trained; killing its SuperLink and ServerApp, and the peer {PEER}")
    killed_at = time.time()
    killed = next(f for f in federations if f.name == VICTIM).kill()
    peers.kill(PEER)
    if not any("flwr-serverapp" in command for command in killed):
        raise Failed(f"no ServerApp ran below {VICTIM}'s SuperLink, only {killed}")
    wait(plan, "mesh", SURVIVOR, plan.rounds, crew, timeout)
    living = [name for name in peers.names if name != PEER]
    models: dict[tuple[str, int], fedmesh.Model] = {}
    rounds: list[fedmesh.Round] = []
    for name in living:
        with fedmesh.Mesh(peers.url(name), timeout=30) as mesh:
            session = mesh.session(SESSION)
            until(lambda: sum(bool(r.model) for r in session.rounds(1, 1000)) >= plan.rounds, f"{name} has not computed {plan.rounds} rounds")
            rounds = [r for r in session.rounds(1, 1000) if r.model]
            models |= {(name, r.round): session.pull(which=r.round) for r in rounds}
    return Seen(killed, killed_at, rounds, models, timeout)


def patient(plan: Plan) -> float:
    """A round's timeout that both federations are done within, however slow the machine: it is counted from the round's beginning."""
    slowest = 0.0
    for name in data.NODES:
        times = [float(e["time"]) for e in entries(plan, "alone", name)]
        slowest = max([slowest, *(b - a for a, b in pairwise(times))])
    return float(max(15, math.ceil(3 * slowest)))


def submit(plan: Plan, run: str, federations: list[Federation], peers: dict[str, str], timeout: float = 0) -> None:
    plan.say("flwr run: " + ("both over the mesh" if peers else "each by itself"))

    for f in federations:
        config: dict[str, str | int] = {"num-rounds": plan.rounds, "num-nodes": len(f.nodes), "seed": plan.seed, "combiner": f.name}
        config |= {"test": str(plan.folder / "data" / "test.npz"), "report": str(plan.report(run, f.name))}
        config |= {"session": SESSION, "round-timeout": f"{timeout}s", "peers": peers.get(f.name, "")}
        f.submit(run, config)


def wait(plan: Plan, run: str, federation: str, rounds: int, crew: Crew, timeout: float = 0) -> None:
    """Wait until a ServerApp has finished a round."""
    last = -1
    name = f"{federation}-{run}"
    end = time.monotonic() + 300 + rounds * (120 + timeout)
    while True:
        alive = crew.alive(name)  # looked at before what it wrote
        lines = entries(plan, run, federation)
        if lines and (now := int(lines[-1]["server_round"])) != last:
            last = now
            plan.say(f"{federation} {'over the mesh' if run == 'mesh' else 'alone'}: round {now}, accuracy {lines[-1]['accuracy']:.4f}")
        if last >= rounds:
            return
        if not alive or time.monotonic() > end:
            raise Failed(f"{federation} stays at round {last} of {rounds}; {crew.logs / name}.log ends:\n{crew.tail(name)}")
        time.sleep(0.1)


def entries(plan: Plan, run: str, federation: str) -> list[dict[str, Any]]:
    """What a ServerApp has written after each round."""
    path = plan.report(run, federation) / "rounds.jsonl"
    if not path.exists():
        return []
    text = path.read_text()
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
