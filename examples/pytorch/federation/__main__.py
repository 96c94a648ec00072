"""All of it: peers, combiners, the death of a peer, the verdict."""

from __future__ import annotations

import argparse
import pathlib
import sys

import fedmesh
from fedmesh.local import LocalError, LocalMesh

from . import digits, options, picture
from .judge import judge
from .net import Net, steady
from .results import Results, Test, accuracies, as_json, heading, table, view
from .split import NoSplit, counts, split
from .stage import StageError, play

SESSION = "digits"


def main() -> int:
    a = arguments()
    try:
        r = run(a)
    except (LocalError, StageError, fedmesh.FedmeshError, digits.NoDigits, NoSplit) as e:
        progress("")
        print(f"federation: {e}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress("")
        return 130
    print(as_json(r) if a.json else "\n".join([*heading(r), "", *table(r)]))
    if a.svg:
        pathlib.Path(a.svg).write_text(picture.draw(r), encoding="utf-8")
    return 1 if r.wrong else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m federation", description="MNIST with PyTorch over a mesh, one peer killed on the way")
    options.add_learning(parser)
    parser.add_argument("--kill", choices=["middle", "none"], default="middle")
    parser.add_argument("--accuracy", type=float, default=0.98, help="that every peer's model must have (default 0.98)")
    parser.add_argument("--svg", metavar="FILE", help="draw the run")
    parser.add_argument("--json", action="store_true", help="the results as JSON on standard output")
    parser.add_argument("--fedmesh", metavar="PATH", help="the command; else that of FEDMESH, of the PATH, or of the repository")
    parser.add_argument("--dir", metavar="DIR", help="keep data and logs there")
    return parser.parse_args()


def run(a: argparse.Namespace) -> Results:
    steady(a.seed)
    where = digits.folder(a.data)
    labels = digits.read(where, "train").labels
    parts = split(labels, a.combiners * a.clients, a.alpha, a.seed)
    test = Test(*digits.read(where, "t10k").tensors())
    seed = Net().state_dict()
    config = {"target_combiners": a.combiners, "copies": 2, "round_timeout": 300}
    progress("peers start")
    with LocalMesh(binary=a.fedmesh, folder=a.dir) as local, fedmesh.Mesh(local.urls) as mesh:
        session = mesh.open(SESSION, seed, config)
        receipts, death = play(local, SESSION, a, progress)
        session.close()
        progress("the peers agree, and their models are tested")
        views = [view(local, peer, SESSION, test) for peer in local.names]
        # The closing makes rounds without updates; they are judged, and no more shown.
        reached = accuracies(local, SESSION, max((one.round for one in views[0].rounds if one.updates), default=0), test)
    progress("")
    wrong = judge(receipts, views, a.combiners, a.accuracy, a.kill != "none", death)
    return Results(a.seed, a.alpha, counts(labels, parts), a.combiners, reached, views, receipts, death, wrong)


def progress(text: str) -> None:
    """The last line of a terminal."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
