"""Three real peers on loopback: the binary that FEDMESH names, or the repository's bin/fedmesh."""

from __future__ import annotations

import contextlib
import os
import pathlib
import signal
import socket
import subprocess
import time
import urllib.request
from typing import Callable, Dict, Iterator, List

import numpy as np
import pytest
from numpy.typing import NDArray

import fedmesh

ROOT = pathlib.Path(__file__).resolve().parents[3]
BINARY = os.environ.get("FEDMESH", str(ROOT / "bin" / "fedmesh"))


def free_ports(n: int) -> List[int]:
    with contextlib.ExitStack() as stack:
        taken = []
        for _ in range(n):
            s = stack.enter_context(socket.socket())
            s.bind(("127.0.0.1", 0))
            taken.append(int(s.getsockname()[1]))
        return taken


class Cluster:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        ports = free_ports(6)
        self.api = dict(zip("abc", ports[:3]))
        self.gossip = dict(zip("abc", ports[3:]))
        self.processes: Dict[str, subprocess.Popen[bytes]] = {}
        for name in "abc":
            self.start(name)
        self.whole()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.api[name]}"

    @property
    def urls(self) -> List[str]:
        return [self.url(n) for n in "abc"]

    def start(self, name: str) -> None:
        args = [BINARY, "node", "--name", name, "--data-dir", str(self.folder / name)]
        args += ["--listen", f"127.0.0.1:{self.api[name]}", "--gossip", f"127.0.0.1:{self.gossip[name]}"]
        for other in "abc":
            if other != name:
                args += ["--join", f"127.0.0.1:{self.gossip[other]}"]
        with open(self.folder / f"{name}.log", "ab") as log:
            self.processes[name] = subprocess.Popen(args, stdout=log, stderr=log)
        until(lambda: self.ready(name), f"peer {name}, see {self.folder / name}.log")

    def ready(self, name: str) -> bool:
        try:
            with urllib.request.urlopen(self.url(name) + "/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def sees_all(self, name: str) -> bool:
        with fedmesh.Mesh(self.url(name), timeout=10) as m:
            return sum(p.state == "alive" for p in m.status().peers) == 3

    def has(self, session: str) -> None:
        """Wait until every peer has the session and its model."""

        def at(url: str) -> bool:
            with fedmesh.Mesh(url, timeout=10) as m:
                try:
                    return bool(m.session(session).info().model)
                except fedmesh.UnknownSession:
                    return False

        until(lambda: all(at(u) for u in self.urls), f"session {session} at every peer")

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def stop(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGTERM)
        self.processes[name].wait(30)

    def restart(self, name: str) -> None:
        self.start(name)
        self.whole()

    def whole(self) -> None:
        until(lambda: all(self.sees_all(n) for n in "abc"), "three peers that see each other")

    def end(self) -> None:
        for p in self.processes.values():
            p.kill()
            p.wait()


def until(done: Callable[[], bool], what: str, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            pytest.fail(f"after {seconds} s no {what}")
        time.sleep(0.05)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    if not os.path.exists(BINARY):
        pytest.fail(f"no binary at {BINARY}: run make build, or name one by FEDMESH")
    c = Cluster(tmp_path_factory.mktemp("peers"))
    yield c
    c.end()


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
