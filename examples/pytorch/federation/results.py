"""What the peers tell at the end, and how it is printed."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import fedmesh
from fedmesh.local import LocalMesh

from .judge import Death, View
from .net import Net, accuracy

PATIENCE = 300.0  # seconds until all is final everywhere


@dataclass(frozen=True)
class Results:
    seed: int
    alpha: float
    split: NDArray[np.int64]  # clients x digits
    combiners: int
    accuracies: List[float]  # of each round's model, from round 0, the seed, on
    views: List[View]
    receipts: Sequence[fedmesh.Receipt]
    death: Optional[Death]
    wrong: List[str]


class Test:
    """The test digits, which no client has."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.net, self.images, self.labels = Net(), images, labels

    def accuracy(self, model: fedmesh.Model) -> float:
        self.net.load_state_dict(model.torch())
        return accuracy(self.net, self.images, self.labels)


def view(local: LocalMesh, peer: str, session: str, test: Test) -> View:
    """Ask one peer, once the session is closed there and all rounds are final."""
    with fedmesh.Mesh(local.url(peer), timeout=PATIENCE) as mesh:
        s = mesh.session(session)
        end = time.monotonic() + PATIENCE
        while True:
            info, rounds = s.info(), s.rounds(1, 1000)
            rounds = [r for r in rounds if r.round <= info.round]
            if time.monotonic() > end or info.state == "closed" and all(r.state == "final" for r in rounds):
                break
            time.sleep(0.1)
        model = s.pull()
        return View(peer, rounds, model.digest, test.accuracy(model))


def accuracies(local: LocalMesh, session: str, rounds: int, test: Test) -> List[float]:
    with fedmesh.Mesh(local.urls, timeout=PATIENCE) as mesh:
        return [test.accuracy(mesh.session(session).pull(which=n)) for n in range(rounds + 1)]


def heading(r: Results) -> List[str]:
    """Who has what."""
    clients = len(r.split)
    out = [
        f"seed {r.seed}, Dirichlet {r.alpha:g}: {r.split.sum()} digits of {clients} clients of {r.combiners} combiners; "
        f"PyTorch {torch.__version__}, numpy {np.__version__}",
        "",
        "client    " + "".join(f"{digit:6d}" for digit in range(10)) + "     all",
    ]
    for n, row in enumerate(r.split):
        out.append(f"{owner(n, clients, r.combiners):<10}" + "".join(f"{count:6d}" for count in row) + f"{row.sum():8d}")
    return out


def owner(client: int, clients: int, combiners: int) -> str:
    """c2.1 is the first client of the second combiner."""
    each = clients // combiners
    return f"c{client // each + 1}.{client % each + 1}"


def table(r: Results) -> List[str]:
    """A line for each round, and the verdict."""
    out = ["round  updates  examples    loss  accuracy  " + "  ".join(f"{v.peer:<8}" for v in r.views).rstrip()]
    by_peer = [{one.round: one for one in v.rounds} for v in r.views]
    for n in range(1, len(r.accuracies)):
        told = [rounds.get(n) for rounds in by_peer]
        one = told[0]
        line = f"{n:5d}  {len(one.updates):7d}  {one.weight:8d}  {one.metrics.get('loss', 0.0):6.4f}" if one else f"{n:5d}" + 27 * " "
        line += f"  {r.accuracies[n]:8.4f}  " + "".join(f"{t.model[:8] if t else '-':<10}" for t in told)
        out.append((line + _event(r.death, n)).rstrip())
    out.append("")
    for v in r.views:
        out.append(f"peer {v.peer}: model {v.digest[:8]}, accuracy {v.accuracy:.4f} on the test digits")
    out.append(f"{len(r.receipts)} updates acknowledged, {acknowledged_once(r)} of them counted exactly once by every peer")
    return out + ([f"WRONG: {fault}" for fault in r.wrong] or ["all is well"])


def acknowledged_once(r: Results) -> int:
    counted = [[(u.combiner, u.id) for one in v.rounds for u in one.updates] for v in r.views]
    return sum(all(keys.count((a.combiner, a.id)) == 1 for keys in counted) for a in r.receipts)


def _event(death: Optional[Death], round: int) -> str:
    if death is None or round not in (death.round, death.returned):
        return ""
    return f"{death.peer} killed after {death.acknowledged} updates" if round == death.round else f"{death.peer} is back"


def as_json(r: Results) -> str:
    rounds: List[Dict[str, Any]] = []
    for n in range(1, len(r.accuracies)):
        told = {v.peer: one for v in r.views for one in v.rounds if one.round == n}
        any_one = next(iter(told.values()), None)
        rounds.append(
            {
                "round": n,
                "accuracy": r.accuracies[n],
                "updates": len(any_one.updates) if any_one else 0,
                "weight": any_one.weight if any_one else 0,
                "metrics": any_one.metrics if any_one else {},
                "models": {peer: one.model for peer, one in told.items()},
            }
        )
    return json.dumps(
        {
            "seed": r.seed,
            "alpha": r.alpha,
            "split": r.split.tolist(),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
            "rounds": rounds,
            "peers": {v.peer: {"model": v.digest, "accuracy": v.accuracy} for v in r.views},
            "death": dataclasses.asdict(r.death) if r.death else None,
            "acknowledged": len(r.receipts),
            "counted_once": acknowledged_once(r),
            "wrong": r.wrong,
        },
        indent=2,
    )
