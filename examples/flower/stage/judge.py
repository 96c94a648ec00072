"""Whether what was seen is right: digests, the exact mean, each update once, going on after the kills."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fedmesh
import numpy as np
from blake3 import blake3
from numpy.typing import NDArray

from . import data
from .scene import SURVIVOR, Plan, Seen, entries

Arrays = dict[str, NDArray[Any]]
# A federation of k nodes has its mean in float32: each weight is rounded, each product, and each of k-1 sums. The mesh rounds once more. So
# the distance from the exact mean is at most k+2 times 2^-24 of the mean of the magnitudes.
UNIT = 2.0**-24 * (1 + 2.0**-20)
TINY = 2.0**-63  # the mesh's least bit


@dataclass
class Round:
    """A round of the mesh, as judged."""

    round: int
    updates: dict[str, int]  # combiner to examples
    peers: dict[str, str]  # digest at each that lives
    federations: dict[str, str]  # digest in each ServerApp that got so far
    ulps: float  # largest distance from the exact mean of all nodes' models, in units in the last place of the mean of their magnitudes
    accuracy: float
    alone: dict[str, float]  # accuracy of each by itself
    seconds: float


@dataclass
class Verdict:
    rounds: list[Round]
    faults: list[str] = field(default_factory=list)
    calm: float = 0.0  # seconds of a round before the kills, the median
    pause: float = 0.0  # seconds of the round of the kills, at the survivor


def judge(plan: Plan, seen: Seen) -> Verdict:
    v = Verdict([])
    means = {name: pushed(plan.report("mesh", name)) for name in data.NODES}
    apps = {name: {e["round"]: e for e in entries(plan, "mesh", name)} for name in data.NODES}
    alone = {name: {e["server_round"]: e["accuracy"] for e in entries(plan, "alone", name)} for name in data.NODES}
    counted: dict[tuple[str, str], int] = {}
    for r in seen.rounds:
        models = {peer: m for (peer, n), m in seen.models.items() if n == r.round}
        model = next(iter(models.values()))
        done = Round(r.round, {}, {}, {}, 0.0, 0.0, {n: a[r.round] for n, a in alone.items() if r.round in a}, 0.0)
        v.rounds.append(done)
        done.peers = {peer: m.digest for peer, m in sorted(models.items())}
        done.federations = {name: app[r.round]["digest"] for name, app in apps.items() if r.round in app}
        for name, app in apps.items():
            if r.round in app:
                done.accuracy = app[r.round]["accuracy"]
                same(v, name, r.round, model, plan.report("mesh", name) / f"global-{app[r.round]['server_round']}.npz")
        if len(set(done.peers.values()) | set(done.federations.values())) != 1:
            v.faults.append(f"round {r.round}: different models: {done.peers}, {done.federations}")
        if r.round - 1 in apps[SURVIVOR] and r.round in apps[SURVIVOR]:
            done.seconds = apps[SURVIVOR][r.round]["time"] - apps[SURVIVOR][r.round - 1]["time"]
        for u in r.updates:
            done.updates[u.combiner] = u.weight
            if (u.combiner, u.digest) in counted:
                v.faults.append(f"round {r.round}: {u.combiner}'s update was counted in round {counted[u.combiner, u.digest]} before")
            counted[u.combiner, u.digest] = r.round
            if u.base_round != r.round - 1:
                v.faults.append(f"round {r.round}: {u.combiner}'s update is of round {u.base_round + 1}: the machine is busy, raise --round-timeout")
            if u.digest not in means[u.combiner].values():
                v.faults.append(f"round {r.round}: {u.combiner}'s update {u.digest[:8]} is none of the means that its server made")
        if not any(f.startswith(f"round {r.round}:") for f in v.faults):
            distances(v, plan, r, model, done, means)
    for name, made in means.items():
        for n, digest in made.items():
            if (name, digest) not in counted and (name == SURVIVOR or n < plan.kill):
                v.faults.append(f"{name}'s mean of its round {n} is in no round of the mesh")
    going_on(v, plan)
    return v


def going_on(v: Verdict, plan: Plan) -> None:
    """The survivor gets to the end, and the mesh was worth it."""
    if not v.rounds or v.rounds[-1].round < plan.rounds:
        v.faults.append(f"{SURVIVOR} did not get to round {plan.rounds}")
        return
    before = [r for r in v.rounds if r.round < plan.kill]
    for r in v.rounds:
        want = set(data.NODES) if r.round < plan.kill else {SURVIVOR}
        if r.round != plan.kill and set(r.updates) != want:
            v.faults.append(f"round {r.round} has updates of {sorted(r.updates)}, not of {sorted(want)}")
        if r.round < plan.kill and set(r.federations) != want:
            v.faults.append(f"round {r.round} was taken by {sorted(r.federations)}, not by {sorted(want)}")
    v.calm = statistics.median(r.seconds for r in before[1:] or before)
    v.pause = next(r.seconds for r in v.rounds if r.round == plan.kill)
    together = before[-1]
    if together.accuracy <= max(together.alone.values()):
        v.faults.append(f"round {together.round}: {together.accuracy:.4f} over the mesh is no better than alone, {together.alone}")
    if v.rounds[-1].accuracy <= v.rounds[-1].alone[SURVIVOR]:
        v.faults.append(f"at the end {SURVIVOR} has {v.rounds[-1].accuracy:.4f} over the mesh, and {v.rounds[-1].alone[SURVIVOR]:.4f} alone")


def distances(v: Verdict, plan: Plan, r: fedmesh.Round, model: fedmesh.Model, done: Round, means: dict[str, dict[int, str]]) -> None:
    """How far the model is from the exact means, of the nodes' models and of the updates."""
    nodes: list[tuple[int, Arrays]] = []
    updates: list[tuple[int, Arrays]] = []
    most = 0
    for u in r.updates:
        report = plan.report("mesh", u.combiner)
        mine = [kept(path) for path in sorted(report.glob(f"{u.base_round}-*.npz"))]
        if sum(n for n, _ in mine) != u.weight or len(mine) != len(data.NODES[u.combiner]):
            v.faults.append(f"round {r.round}: {u.combiner} has the weight {u.weight}, its nodes {[n for n, _ in mine]} examples")
            return
        nodes += mine
        most = max(most, len(mine))
        made = next(n for n, digest in means[u.combiner].items() if digest == u.digest)
        updates.append((u.weight, arrays(report / f"mean-{made}.npz")))
    exact, size = mean(nodes, model)
    distance = {name: np.abs(model[name].astype(np.float64) - exact[name]) for name in model}
    done.ulps = max(float((distance[n] / np.spacing(size[n].astype(np.float32))).max(initial=0)) for n in model)
    if any(np.any(distance[n] > (most + 2) * UNIT * size[n] + TINY) for n in model):
        v.faults.append(f"round {r.round}: {done.ulps:.2f} ulps from the mean of the nodes' models, which Flower's rounding and ours do not explain")
    exact, _ = mean(updates, model)
    if any(np.any(np.abs(model[n].astype(np.float64) - exact[n]) > 0.501 * np.spacing(np.abs(model[n])) + TINY) for n in model):
        v.faults.append(f"round {r.round}: the model is not the float32 nearest to the mean of the updates")


def mean(weighted: list[tuple[int, Arrays]], names: Iterable[str]) -> tuple[Arrays, Arrays]:
    """The mean, and that of the magnitudes, in float64."""
    total = sum(w for w, _ in weighted)
    exact, size = {}, {}
    for name in names:
        terms = np.stack([w * a[name].astype(np.float64) for w, a in weighted])
        exact[name], size[name] = terms.sum(0) / total, np.abs(terms).sum(0) / total
    return exact, size


def same(v: Verdict, name: str, number: int, model: fedmesh.Model, path: Path) -> None:
    """What a ServerApp went on with is the mesh's model to the bit."""
    own = arrays(path)
    if set(own) != set(model) or any(own[n].tobytes() != model[n].tobytes() for n in own):
        v.faults.append(f"round {number}: {name}'s arrays are not the mesh's model")


def pushed(report: Path) -> dict[int, str]:
    """The digests of the means that a server made, by its round, as the mesh computes them."""
    out = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in report.glob("mean-*.npz"):
            fedmesh.save(f"{folder}/x", arrays(path))
            out[int(path.stem.removeprefix("mean-"))] = blake3(Path(folder, "x").read_bytes()).hexdigest()
    return out


def arrays(path: Path) -> Arrays:
    with np.load(path) as f:
        return {name: f[name] for name in f}


def kept(path: Path) -> tuple[int, Arrays]:
    """A node's number of examples and its model."""
    a = arrays(path)
    return int(a.pop("examples")), a
