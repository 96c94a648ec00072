"""What runs beside a SuperLink: FedAvg, over the mesh when there are peers, else by itself."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path

import fedmesh
import numpy as np
from fedmesh_flower import MeshStrategy
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Strategy

from . import net

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    c = {key: str(value) for key, value in context.run_config.items()}
    nodes, report = int(c["num-nodes"]), Path(c["report"])
    report.mkdir(parents=True, exist_ok=True)
    strategy: Strategy = Kept(report, fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    over: MeshStrategy | None = None
    if c["peers"]:
        mesh = fedmesh.Mesh(c["peers"])
        rounds = {"target_combiners": int(c["target-combiners"]), "round_timeout": c["round-timeout"], "settle_timeout": 0.2}
        strategy = over = MeshStrategy(strategy, mesh, c["session"], combiner=c["combiner"], open=rounds, patience=60)
    images, labels = net.load(c["test"])

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        model = {name: array.numpy() for name, array in arrays.items()}
        now = {"time": time.time(), "accuracy": net.accuracy(model, images, labels)}
        np.savez(report / f"global-{server_round}.npz", **model)  # type: ignore[arg-type]
        told: dict[str, float | str] = {"server_round": server_round, **now}
        if over is not None:
            told |= {"round": over.model.round, "digest": over.model.digest}
        with open(report / "rounds.jsonl", "a") as f:
            f.write(json.dumps(told) + "\n")
        return MetricRecord({"accuracy": now["accuracy"]})

    start = ArrayRecord({name: Array(a) for name, a in net.seeded(int(c["seed"])).items()})
    strategy.start(grid, start, int(c["num-rounds"]), train_config=ConfigRecord({"kept": str(report)}), evaluate_fn=evaluate)


class Kept(FedAvg):
    """FedAvg that leaves its means on disk, for the judge."""

    def __init__(self, report: Path, **fedavg: float) -> None:
        super().__init__(**fedavg)  # type: ignore[arg-type]
        self.report = report

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is not None:
            np.savez(self.report / f"mean-{server_round}.npz", **{name: a.numpy() for name, a in arrays.items()})  # type: ignore[arg-type]
        return arrays, metrics
