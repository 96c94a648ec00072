"""The flags that the run and its combiners have in common."""

from __future__ import annotations

import argparse
import pathlib
from typing import Callable, List


def whole(least: int) -> Callable[[str], int]:
    """The type of a flag."""

    def number(text: str) -> int:
        n = int(text)
        if n < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        return n

    return number


def add_learning(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=whole(4), default=12)
    parser.add_argument("--combiners", type=whole(2), default=4)
    parser.add_argument("--clients", type=whole(1), default=4, help="of each combiner")
    parser.add_argument("--alpha", type=float, default=0.5, help="of the Dirichlet distribution; smaller: less alike (default 0.5)")
    parser.add_argument("--seed", type=whole(0), default=1, help="of the first weights, the split and the batches")
    parser.add_argument("--data", metavar="DIR", help="folder with MNIST's four files, in place of the Go module's")


def learning(a: argparse.Namespace) -> List[str]:
    """The same flags again, for a combiner."""
    out = [f"--{name}={getattr(a, name)}" for name in ("rounds", "combiners", "clients", "alpha", "seed")]
    return out + ([] if a.data is None else [f"--data={pathlib.Path(a.data).resolve()}"])


def combiner(number: int) -> str:
    return f"c{number + 1}"
