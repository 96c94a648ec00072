"""The judge of the example sees what is wrong: each fault is put into a run that is right."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import fedmesh
import numpy as np
import pytest
from blake3 import blake3

from stage import data
from stage.judge import judge
from stage.scene import SURVIVOR, VICTIM, Plan, Seen

from .conftest import Arrays

ROUNDS, KILL = 4, 3


class Run:
    """A run of four rounds, in files as the apps leave them."""

    def __init__(self, folder: Path) -> None:
        self.plan = Plan(folder, None, 1, ROUNDS, KILL, 15.0, lambda text: None)
        self.rounds: list[fedmesh.Round] = []
        self.models: dict[tuple[str, int], fedmesh.Model] = {}
        rng = np.random.default_rng(1)
        for name in data.NODES:
            for run in ("alone", "mesh"):
                self.plan.report(run, name).mkdir(parents=True)
                self.tell(run, name, 0, "seed")
        for r in range(1, ROUNDS + 1):
            self.round(r, [SURVIVOR, VICTIM] if r < KILL else [SURVIVOR], rng)
        self.seen = Seen(["flwr-serverapp"], 0.0, self.rounds, self.models, 15.0)

    def round(self, r: int, names: list[str], rng: np.random.Generator) -> None:
        updates, total, terms = [], 0, np.zeros((40, 10))
        for name in data.NODES:
            self.tell("alone", name, r, "", 0.5)
        for name in names:
            report, examples, own = self.plan.report("mesh", name), 0, np.zeros((40, 10))
            for node in data.NODES[name]:
                w = rng.standard_normal((40, 10)).astype(np.float32)
                np.savez(report / f"{r - 1}-{node.name}.npz", examples=node.images, w=w)
                examples, own = examples + node.images, own + node.images * w.astype(np.float64)
            mean = (own / examples).astype(np.float32)
            np.savez(report / f"mean-{r}.npz", w=mean)
            updates.append(fedmesh.Update(name, f"r{r - 1}", self.file({"w": mean})[1], examples, "", r - 1, []))
            total, terms = total + examples, terms + examples * mean.astype(np.float64)
        model = {"w": (terms / total).astype(np.float32)}
        buffer, digest = self.file(model)
        for peer in ("b", "c"):
            self.models[peer, r] = fedmesh.Model(buffer, digest, r, "digits", "")
        self.rounds.append(fedmesh.Round(r, "settled", digest, "", updates, total, {}, {}, [], [], len(names)))
        for name in names:
            self.tell("mesh", name, r, digest)
            np.savez(self.plan.report("mesh", name) / f"global-{r}.npz", w=model["w"])

    def tell(self, run: str, name: str, r: int, digest: str, accuracy: float = 0.9) -> None:
        line = {"server_round": r, "time": 10.0 * r, "accuracy": accuracy, "round": r, "digest": digest}
        with open(self.plan.report(run, name) / "rounds.jsonl", "a") as f:
            f.write(json.dumps(line) + "\n")

    def file(self, model: Arrays) -> tuple[np.ndarray[tuple[int], np.dtype[np.uint8]], str]:
        path = self.plan.folder / "model"
        fedmesh.save(path, model)
        return np.fromfile(path, np.uint8), blake3(path.read_bytes()).hexdigest()

    def faults(self) -> str:
        return "\n".join(judge(self.plan, self.seen).faults)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_a_run_that_is_right(run: Run) -> None:
    verdict = judge(run.plan, run.seen)
    assert not verdict.faults
    assert [r.updates for r in verdict.rounds] == [{"north": 2800, "south": 2600}] * 2 + [{"north": 2800}] * 2
    assert all(0 < r.ulps <= 1 for r in verdict.rounds[:2]), "two roundings"
    assert (verdict.calm, verdict.pause) == (10, 10)


def test_arrays_that_differ_in_the_last_bit(run: Run) -> None:
    path = run.plan.report("mesh", VICTIM) / "global-2.npz"
    with np.load(path) as f:
        w = f["w"]
    w[3, 3] = np.nextafter(w[3, 3], np.float32(9))
    np.savez(path, w=w)
    assert run.faults() == "round 2: south's arrays are not the mesh's model"


def test_a_model_that_is_not_the_nearest(run: Run) -> None:
    """One place off everywhere: peers and apps agree, yet it is not the mean."""
    w = np.nextafter(run.models["b", 4]["w"], np.float32(9))
    buffer, digest = run.file({"w": w})
    for peer in ("b", "c"):
        run.models[peer, 4] = fedmesh.Model(buffer, digest, 4, "digits", "")
    report = run.plan.report("mesh", SURVIVOR)
    np.savez(report / "global-4.npz", w=w)
    (report / "rounds.jsonl").write_text((report / "rounds.jsonl").read_text().replace(run.rounds[3].model, digest))
    assert run.faults() == "round 4: the model is not the float32 nearest to the mean of the updates"


def test_a_node_that_was_not_counted(run: Run) -> None:
    path = run.plan.report("mesh", SURVIVOR) / "1-n3.npz"
    with np.load(path) as f:
        np.savez(path, examples=f["examples"], w=f["w"] + np.float32(1))
    assert "round 2" in run.faults() and "which Flower's rounding and ours do not explain" in run.faults()
    path.unlink()
    assert "round 2: north has the weight 2800, its nodes [1600, 800] examples" in run.faults()


def test_peers_that_disagree(run: Run) -> None:
    run.models["c", 2] = run.models["c", 1]
    assert "round 2: different models" in run.faults()


def test_an_update_that_counts_twice_or_never(run: Run) -> None:
    again = dataclasses.replace(run.rounds[3], updates=run.rounds[2].updates)
    run.rounds[3] = again
    faults = run.faults()
    assert "round 4: north's update was counted in round 3 before" in faults
    assert "north's mean of its round 4 is in no round of the mesh" in faults


def test_a_survivor_that_stops(run: Run) -> None:
    del run.rounds[3]
    assert "north did not get to round 4" in run.faults()


def test_a_mesh_that_is_no_better(run: Run) -> None:
    for name in data.NODES:
        path = run.plan.report("alone", name) / "rounds.jsonl"
        path.write_text(path.read_text().replace("0.5", "0.95"))
    assert "is no better than alone" in run.faults() and "at the end north has 0.9000 over the mesh, and 0.9500 alone" in run.faults()
