"""A combiner: pull the model, let the clients train it, push their mean. combine() is all that a training loop needs to be on a mesh.

    python -m federation.combiner --peers 127.0.0.1:8080,127.0.0.1:8081 --session digits --number 0
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import Callable, Sequence

import fedmesh

from . import digits, options
from .client import Client, Mean
from .net import Net, steady
from .split import split


def combine(session: fedmesh.Session, clients: Sequence[Client], rounds: int, told: Callable[[fedmesh.Receipt], None]) -> fedmesh.Model:
    """Take part in a session until it has a model of that many rounds, and return it."""
    net = Net()
    model = session.pull()
    while model.round < rounds:
        mean = Mean()
        for client in clients:
            net.load_state_dict(model.torch())
            loss = client.train(net, model.round)
            mean.add(net.state_dict(), client.examples, loss)
        told(session.push(mean.state_dict(), weight=mean.examples, base=model, metrics={"loss": mean.loss}))
        model = session.pull(after=model, wait=300)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m federation.combiner", description="one combiner with its clients")
    parser.add_argument("--peers", required=True, help="peers, any of which will do; the first that answers is used")
    parser.add_argument("--session", required=True)
    parser.add_argument("--number", type=int, required=True, help="which of the combiners this is, from 0 on")
    options.add_learning(parser)
    a = parser.parse_args()

    steady(a.seed)
    training = digits.read(digits.folder(a.data), "train")
    parts = split(training.labels, a.combiners * a.clients, a.alpha, a.seed)
    mine = range(a.number * a.clients, (a.number + 1) * a.clients)
    clients = [Client(n, *training.tensors(parts[n]), a.seed) for n in mine]
    with fedmesh.Mesh(a.peers, combiner=options.combiner(a.number)) as mesh:
        combine(mesh.session(a.session), clients, a.rounds, lambda receipt: print(json.dumps(dataclasses.asdict(receipt)), flush=True))


if __name__ == "__main__":
    main()
