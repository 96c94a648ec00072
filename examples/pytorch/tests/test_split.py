"""Who has which digits."""

from __future__ import annotations

import numpy as np
import pytest

from federation.split import FEWEST, NoSplit, counts, split

LABELS = np.random.default_rng(0).integers(0, 10, 20_000).astype(np.uint8)


@pytest.mark.parametrize("clients", [1, 5, 16])
def test_everybody_has_something_and_nothing_is_shared(clients: int) -> None:
    parts = split(LABELS, clients, 0.5, 3)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(LABELS)))
    table = counts(LABELS, parts)
    assert table.shape == (clients, 10) and table.sum() == len(LABELS) and min(table.sum(1)) >= FEWEST
    assert table.sum(0).tolist() == np.bincount(LABELS).tolist()


def test_the_seed_decides() -> None:
    one, same, other = (counts(LABELS, split(LABELS, 8, 0.5, seed)).tolist() for seed in (1, 1, 2))
    assert one == same != other


def test_alpha_decides_how_alike_clients_are() -> None:
    def spread(alpha: float) -> float:
        table = counts(LABELS, split(LABELS, 8, alpha, 1))
        return float((table / table.sum(1, keepdims=True)).std(0).mean())

    assert spread(0.3) > 2 * spread(3) > 4 * spread(300)


@pytest.mark.parametrize("clients,alpha", [(0, 0.5), (len(LABELS), 0.5), (4, 0.0), (4, float("nan")), (70, 0.001)])
def test_splits_that_are_none(clients: int, alpha: float) -> None:
    with pytest.raises(NoSplit, match=r"cannot be divided|take a larger one"):
        split(LABELS, clients, alpha, 1)
