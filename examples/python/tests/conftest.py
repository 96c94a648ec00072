"""Three real peers on loopback, and what the tests share."""

from __future__ import annotations

import time
from typing import Callable, Dict, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

import fedmesh
from fedmesh.local import LocalMesh


class Cluster(LocalMesh):
    def has(self, session: str) -> None:
        """Wait until every peer has the session and its model."""

        def at(url: str) -> bool:
            with fedmesh.Mesh(url, timeout=60) as m:
                try:
                    return bool(m.session(session).info().model)
                except fedmesh.UnknownSession:
                    return False

        until(lambda: all(at(u) for u in self.urls), f"session {session} at every peer")


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            pytest.fail(f"after {seconds} s no {what}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(folder=tmp_path_factory.mktemp("peers")) as c:
        yield c


@pytest.fixture
def mesh(cluster: Cluster) -> Iterator[fedmesh.Mesh]:
    with fedmesh.Mesh(cluster.urls, timeout=60, combiner="c1") as m:
        yield m


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A session's name of this test's own."""
    return "".join(c if c.isalnum() else "-" for c in f"{request.module.__name__} {request.node.name}")


CONFIG = {"target_combiners": 1, "copies": 2, "round_timeout": 60, "settle_timeout": 0.2}


def arrays(value: float = 0.0) -> Dict[str, NDArray[np.float32]]:
    return {"w": np.full((4, 3), value, np.float32), "b": np.full(3, value, np.float32)}


@pytest.fixture(scope="session")
def large() -> Dict[str, NDArray[np.float32]]:
    """64 MiB, enough for a peer to be killed in the middle."""
    return {"w": np.arange(16 << 20, dtype=np.float32).reshape(4096, -1) / 1e9}
