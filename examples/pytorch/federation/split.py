"""Who has which digits."""

from __future__ import annotations

from typing import Any, List

import numpy as np
from numpy.typing import NDArray

FEWEST = 64  # examples of a client: two batches


class NoSplit(ValueError):
    """Examples that cannot be divided so."""


def split(labels: NDArray[Any], clients: int, alpha: float, seed: int) -> List[NDArray[np.int64]]:
    """Divide examples among clients, none to two of them: indices for each client.

    Each digit goes to them in proportions drawn from a Dirichlet distribution with parameter alpha (Hsu, Qi, Brown 2019): the smaller it is,
    the less do clients look alike. Drawn again, with the same generator, until each has at least FEWEST.
    """
    if not 1 <= clients <= len(labels) // (4 * FEWEST) or not alpha > 0:
        raise NoSplit(f"{len(labels)} examples cannot be divided among {clients} clients with alpha {alpha}")
    random = np.random.default_rng(seed)
    for _ in range(1000):
        parts: List[List[NDArray[np.int64]]] = [[] for _ in range(clients)]
        for digit in np.unique(labels):
            mine = random.permutation(np.flatnonzero(labels == digit))
            ends = np.cumsum(random.dirichlet(np.full(clients, alpha)))[:-1]
            for part, piece in zip(parts, np.split(mine, (ends * len(mine)).astype(np.int64))):
                part.append(piece)
        out = [np.sort(np.concatenate(part)) for part in parts]
        if min(map(len, out)) >= FEWEST:
            return out
    raise NoSplit(f"with alpha {alpha} some of {clients} clients always get fewer than {FEWEST} examples: take a larger one")


def counts(labels: NDArray[Any], parts: List[NDArray[np.int64]]) -> NDArray[np.int64]:
    """How many of each digit each client has: clients x 10."""
    return np.stack([np.bincount(labels[part], minlength=10) for part in parts]).astype(np.int64)
