"""A network of one hidden layer, trained by plain stochastic gradient descent."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float32]]
Images = NDArray[np.float32]
Labels = NDArray[np.int64]

PIXELS, HIDDEN, CLASSES = 784, 32, 10
RATE, BATCH = np.float32(0.1), 20


def seeded(seed: int) -> Arrays:
    """The model that training begins with."""
    rng = np.random.default_rng(seed)

    def layer(inputs: int, outputs: int) -> NDArray[np.float32]:
        weights: NDArray[np.float64] = rng.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        return weights.astype(np.float32)

    return {
        "hidden.weight": layer(PIXELS, HIDDEN),
        "hidden.bias": np.zeros(HIDDEN, np.float32),
        "output.weight": layer(HIDDEN, CLASSES),
        "output.bias": np.zeros(CLASSES, np.float32),
    }


def load(path: str | Path) -> tuple[Images, Labels]:
    with np.load(path) as f:
        return f["images"].astype(np.float32) / 255, f["labels"].astype(np.int64)


def train(start: Arrays, images: Images, labels: Labels, seed: int, epochs: int = 3) -> tuple[Arrays, float]:
    """The trained model and the mean loss on the way."""
    m = {name: a.copy() for name, a in start.items()}
    rng = np.random.default_rng(seed)
    total = 0.0
    for _ in range(epochs):
        order = rng.permutation(len(labels))
        for at in range(0, len(order), BATCH):
            total += step(m, images[order[at : at + BATCH]], labels[order[at : at + BATCH]])
    return m, total / (epochs * len(labels))


def step(m: Arrays, x: Images, labels: Labels) -> float:
    """One step down the gradient of the cross entropy, in place; returns the sum of the losses."""
    h, p = forward(m, x)
    rows = np.arange(len(labels))
    loss = -float(np.log(np.maximum(p[rows, labels], 1e-12)).sum())
    p[rows, labels] -= 1
    p /= np.float32(len(labels))
    back = (p @ m["output.weight"].T) * (h > 0)
    m["output.weight"] -= RATE * (h.T @ p)
    m["output.bias"] -= RATE * p.sum(0)
    m["hidden.weight"] -= RATE * (x.T @ back)
    m["hidden.bias"] -= RATE * back.sum(0)
    return loss


def forward(m: Arrays, x: Images) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    h = np.maximum(x @ m["hidden.weight"] + m["hidden.bias"], 0)
    z = h @ m["output.weight"] + m["output.bias"]
    e = np.exp(z - z.max(1, keepdims=True))
    return h, e / e.sum(1, keepdims=True)


def accuracy(m: Arrays, images: Images, labels: Labels) -> float:
    return float((forward(m, images)[1].argmax(1) == labels).mean())
