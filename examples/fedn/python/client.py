"""Runs real FEDn clients that train a softmax classifier on their own digits.

    client.py --combiner 127.0.0.1:9001 --data a.npz,b.npz --out DIR

One client for each file of images and labels, named after it. Each leaves what it sent in
DIR, as NAME-<n>.npz for its nth update, which holds the model's arrays, and its number of
examples as "examples".
"""

import argparse
import io
import threading
import time
from pathlib import Path

import numpy as np
from fedn.common.log_config import set_log_level_from_string
from fedn.network.clients.fedn_client import FednClient, GrpcConnectionOptions
from fedn.utils.helpers.helpers import get_helper


def train(arrays, images, labels, rng, steps=40, batch=32, rate=0.1):
    """Steps of plain gradient descent on the cross entropy of one linear layer."""
    w, b = (a.astype(np.float32).copy() for a in arrays)
    for _ in range(steps):
        pick = rng.integers(0, len(labels), batch)
        x, y = images[pick], labels[pick]
        z = x @ w + b
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(batch), y] -= 1
        w -= np.float32(rate / batch) * (x.T @ p)
        b -= np.float32(rate / batch) * p.sum(axis=0)
    return [w, b]


def client(combiner, data, out):
    host, port = combiner.split(":")
    name = Path(data).stem
    with np.load(data) as z:
        images, labels = z["images"].astype(np.float32) / 255, z["labels"].astype(np.int64)
    rng = np.random.default_rng(int.from_bytes(name.encode(), "little") % 2**32)
    helper = get_helper("numpyhelper")
    count = 0

    def trained(model, _):
        nonlocal count
        count += 1
        model.seek(0)
        arrays = train(helper.load(model), images, labels, rng)
        np.savez(out / f"{name}-{count}.npz", *arrays, examples=np.int64(len(labels)))
        sent = io.BytesIO()
        np.savez_compressed(sent, **{str(i): a for i, a in enumerate(arrays)})
        sent.seek(0)
        return sent, {"training_metadata": {"num_examples": len(labels)}}

    c = FednClient(train_callback=trained)
    c.set_name(name)
    c.set_client_id(name)
    if not c.init_grpchandler(GrpcConnectionOptions(host=host, port=int(port)), client_name=name, token=""):
        raise SystemExit(f"client {name}: no connection to {combiner}")
    c.run(with_telemetry=False)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--combiner", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--out", type=Path, required=True)
    a = p.parse_args()
    set_log_level_from_string("WARNING")
    Path("package").mkdir(exist_ok=True)  # each client makes it unless it is there, and two at once are in each other's way
    for data in a.data.split(","):
        threading.Thread(target=client, args=(a.combiner, data, a.out), daemon=True).start()
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
