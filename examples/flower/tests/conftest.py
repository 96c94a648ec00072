"""Real peers on loopback, nodes that answer what a test says, and Flower's log."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, cast

import fedmesh
import numpy as np
import pytest
from fedmesh.local import LocalMesh
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from fedmesh_flower import MeshStrategy

Arrays = dict[str, NDArray[Any]]


class Nodes:
    """A Grid with two nodes: as much of it as strategies use to sample."""

    def get_node_ids(self) -> Iterable[int]:
        return [1, 2]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Both train: the first adds 1, the second, with three times the examples, 5."""
        return [reply(added(m, by), n) for m, by, n in zip(messages, (1, 5), (10, 30), strict=False)]  # none to evaluate


GRID = cast(Grid, Nodes())


def arrays(value: float = 0.0) -> Arrays:
    return {"w": np.full((4, 3), value, np.float32), "b": np.full(3, value, np.float32)}


def record(of: Mapping[str, NDArray[Any]]) -> ArrayRecord:
    return ArrayRecord({name: Array(a) for name, a in of.items()})


def reply(of: Mapping[str, NDArray[Any]], examples: float, loss: float = 0.5) -> Message:
    content = RecordDict({"arrays": record(of), "metrics": MetricRecord({"num-examples": examples, "loss": loss})})
    return Message(content=content, message_type=MessageType.TRAIN, dst_node_id=1)


def added(message: Message, by: float) -> Arrays:
    return {name: a.numpy() + np.float32(by) for name, a in message.content.array_records["arrays"].items()}


def train(
    strategy: MeshStrategy, arrays_in: ArrayRecord, replies: list[Message], number: int = 1
) -> tuple[ArrayRecord | None, MetricRecord | None]:
    """One round with these replies."""
    sent(strategy, arrays_in, number)
    return strategy.aggregate_train(number, replies)


def sent(strategy: MeshStrategy, arrays_in: ArrayRecord, number: int = 1) -> Arrays:
    """What the nodes get to train from."""
    message = next(iter(strategy.configure_train(number, arrays_in, ConfigRecord(), GRID)))
    return {name: a.numpy() for name, a in message.content.array_records["arrays"].items()}


def values(of: ArrayRecord | None) -> dict[str, float]:
    """The first element of each array."""
    assert of is not None
    return {name: float(a.numpy().reshape(-1)[0]) for name, a in of.items()}


def until(done: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture(scope="session", autouse=True)
def task() -> None:
    """What a ServerApp's process is told before the app begins: messages bear it."""
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 1, 1, 1


@pytest.fixture(scope="session")
def local() -> Iterator[LocalMesh]:
    with LocalMesh() as peers:
        yield peers


@pytest.fixture
def mesh(local: LocalMesh) -> Iterator[fedmesh.Mesh]:
    with fedmesh.Mesh(local.urls, timeout=60) as m:
        yield m


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A session's name of this test's own."""
    return "".join(c if c.isalnum() else "-" for c in request.node.name)


@pytest.fixture
def flower() -> Iterator[list[str]]:
    """The lines of Flower's log that the strategy writes."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, r: logging.LogRecord) -> None:
            if r.getMessage().startswith("mesh: "):
                lines.append(f"{r.levelname} {r.getMessage()}")

    keep = Keep()
    logging.getLogger("flwr").addHandler(keep)
    yield lines
    logging.getLogger("flwr").removeHandler(keep)


ONE = {"target_combiners": 1, "round_timeout": 60, "settle_timeout": 0.2}
TWO = {**ONE, "target_combiners": 2}


def combiner(
    mesh: fedmesh.Mesh, session: str, name: str = "north", open: Mapping[str, Any] | None = ONE, patience: float = 60
) -> MeshStrategy:
    return MeshStrategy(FedAvg(), mesh, session, combiner=name, open=open, patience=patience)
