"""What runs in a SuperNode. Nothing in it knows of the mesh."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from . import net

app = ClientApp()


@app.train()
def train(msg: Message, context: Context) -> Message:
    node = context.node_config
    images, labels = net.load(str(node["data"]))
    config = msg.content.config_records["config"]
    start = {name: array.numpy() for name, array in msg.content.array_records["arrays"].items()}
    done = int(str(config.get("mesh-round", int(str(config["server-round"])) - 1)))  # rounds that the model has behind it
    trained, loss = net.train(start, images, labels, seed=int(str(node["seed"])) + done)
    kept = Path(str(config["kept"]))
    kept.mkdir(parents=True, exist_ok=True)
    with open(kept / f"{done}-{node['name']}.tmp", "wb") as f:  # for the judge
        np.savez(f, examples=len(labels), **trained)  # type: ignore[arg-type]
    (kept / f"{done}-{node['name']}.tmp").rename(kept / f"{done}-{node['name']}.npz")
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(a) for name, a in trained.items()}),
            "metrics": MetricRecord({"num-examples": len(labels), "loss": loss}),
        }
    )
    return Message(content=content, reply_to=msg)
