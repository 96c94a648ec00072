"""Real peers on this machine, for notebooks, tests and examples.

    with LocalMesh() as local:
        mesh = fedmesh.Mesh(local.urls, combiner="c1")
        local.kill("a")
        local.restart("a")

No more than that: peers for real work are started by what starts services.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import weakref
from types import TracebackType
from typing import Callable, Dict, Iterable, List, Optional, Sequence, Type, TypeVar, Union

import httpx

from ._problems import FedmeshError, TimedOut
from ._sync import Mesh

__all__ = ["LocalError", "LocalMesh"]

PathLike = Union[str, "os.PathLike[str]"]
Self = TypeVar("Self", bound="LocalMesh")

PATIENCE = 60.0  # seconds until a peer must be ready, and until all see each other
PORTS = 5  # times that other ports are taken when somebody else got one first
TAKEN = ("address already in use", "Only one usage of each socket address")
TAIL = 2000  # bytes of a log that are shown


class LocalError(FedmeshError, RuntimeError):
    """A peer that cannot be started, or does not become what was waited for."""


class LocalMesh:
    """Peers by name, on ports of the loopback interface that keep to their peer while this lives.

    binary is the command fedmesh; without it the one that FEDMESH names, that of the PATH, or bin/fedmesh of the repository. Data and logs
    are in folder; without one they are in a temporary folder and go with it. args are further flags of `fedmesh node`; where they name a
    file of tokens, token is one of them, with the role reader or operator.
    """

    def __init__(
        self,
        binary: Optional[PathLike] = None,
        names: Sequence[str] = ("a", "b", "c"),
        folder: Optional[PathLike] = None,
        args: Sequence[str] = (),
        token: Optional[str] = None,
    ) -> None:
        self.binary = find(binary)
        self.names = tuple(names)
        self.processes: Dict[str, subprocess.Popen[bytes]] = {}
        self._args = tuple(args)
        self._token = token
        self._ports: Dict[str, List[int]] = {}  # API and gossip
        self._temporary = None if folder is not None else tempfile.TemporaryDirectory(prefix="fedmesh-")
        self.folder = pathlib.Path(folder if folder is not None else self._temporary.name if self._temporary else "")
        self._end = weakref.finalize(self, _kill, self.processes)  # also where nobody closes it, as in notebooks

    def __enter__(self: Self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]) -> None:
        self.close()

    def close(self) -> None:
        """Kill all peers. A temporary folder goes."""
        _kill(self.processes)
        if self._temporary is not None:
            self._temporary.cleanup()

    @property
    def urls(self) -> List[str]:
        return [self.url(name) for name in self.names]

    def url(self, name: str) -> str:
        return f"http://{self._address(name, 0)}"

    def log(self, name: str) -> pathlib.Path:
        return self.folder / f"{name}.log"

    def start(self, name: Optional[str] = None) -> None:
        """Start a peer, or all, and wait until those that run are ready and see each other."""
        names = self.names if name is None else (self._known(name),)
        if not self._ports:
            self._first_start(names)
        for one in names:
            self._start(one)
        self.wait()

    def kill(self, name: str) -> None:
        """SIGKILL: no farewell. Its data stay."""
        self._signal(name, subprocess.Popen.kill)

    def stop(self, name: str) -> None:
        """SIGTERM: it finishes what is under way and tells the others."""
        self._signal(name, subprocess.Popen.terminate)

    def restart(self, name: str) -> None:
        """Start a peer again with its ports and data; one that runs is stopped before."""
        if name in self._running():
            self.stop(name)
        self.start(name)

    def wait(self) -> None:
        """Wait until all peers that run are ready and see each other."""
        names = self._running()
        for name in names:
            self._until(lambda: self._ready(name), f"{name} is not ready", [name])
        self._until(lambda: all(self._sees(name, names) for name in names), f"{', '.join(names)} do not all see each other", names)

    def _first_start(self, names: Sequence[str]) -> None:
        """Between the choice of the ports and the start somebody else may take one: then all begin again on others."""
        for left in reversed(range(PORTS)):
            self._ports = dict(zip(self.names, free_ports(len(self.names))))
            try:
                for name in names:
                    self._launch(name)
                for name in names:
                    self._until(lambda: self._ready(name), f"{name} is not ready", [name])
                return
            except LocalError as e:
                _kill(self.processes)
                if not left or not any(text in str(e) for text in TAKEN):
                    self._ports = {}
                    raise

    def _start(self, name: str) -> None:
        """Clients know the port, so one that is taken at the moment is waited for."""
        end = time.monotonic() + PATIENCE
        while name not in self._running():
            self._launch(name)
            try:
                self._until(lambda: self._ready(name), f"{name} is not ready", [name])
            except LocalError as e:
                if time.monotonic() > end or not any(text in str(e) for text in TAKEN):
                    raise

    def _launch(self, name: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [str(self.binary), "node", "--name", name, "--data-dir", str(self.folder / name)]
        command += ["--listen", self._address(name, 0), "--gossip", self._address(name, 1)]
        for other in self.names:
            if other != name:
                command += ["--join", self._address(other, 1)]
        with open(self.log(name), "ab") as log:
            # A session of its own: Ctrl-C is for who trains, not for the peers.
            self.processes[name] = subprocess.Popen(
                [*command, *self._args], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def _signal(self, name: str, send: Callable[[subprocess.Popen[bytes]], None]) -> None:
        if name not in self._running():
            raise LocalError(f"the peer {name} does not run, so it cannot be ended")
        send(self.processes[name])
        try:
            self.processes[name].wait(PATIENCE)
        except subprocess.TimeoutExpired as e:
            raise LocalError(f"the peer {name} does not end within {PATIENCE:.0f} s\n{self._tail(name)}") from e

    def _running(self) -> List[str]:
        return [name for name, p in self.processes.items() if p.poll() is None]

    def _ready(self, name: str) -> bool:
        try:
            return httpx.get(self.url(name) + "/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _sees(self, name: str, names: Iterable[str]) -> bool:
        try:
            with Mesh(self.url(name), timeout=5, token=self._token) as mesh:
                return {p.name for p in mesh.status().peers if p.state == "alive"} >= set(names)
        except TimedOut:
            return False

    def _until(self, done: Callable[[], bool], what: str, needs: Iterable[str]) -> None:
        end = time.monotonic() + PATIENCE
        while not done():
            for name in needs:
                code = self.processes[name].poll()
                if code is not None:
                    raise LocalError(f"the peer {name} ended with code {code}\n{self._tail(name)}")
            if time.monotonic() > end:
                raise LocalError(f"after {PATIENCE:.0f} s {what}\n" + "\n".join(self._tail(name) for name in needs))
            time.sleep(0.05)

    def _tail(self, name: str) -> str:
        try:
            text = self.log(name).read_bytes()[-TAIL:].decode(errors="replace").strip()
        except OSError as e:
            text = str(e)
        return f"its log, {self.log(name)}, ends:\n{text}"

    def _address(self, name: str, port: int) -> str:
        self._known(name)
        if not self._ports:
            raise LocalError("the peers have no addresses before they are started: use `with LocalMesh() as local`, or start()")
        return f"127.0.0.1:{self._ports[name][port]}"

    def _known(self, name: str) -> str:
        if name not in self.names:
            raise LocalError(f"there is no peer {name!r}, only {', '.join(self.names)}")
        return name


def find(binary: Optional[PathLike] = None) -> pathlib.Path:
    """The command fedmesh: the one given, that of FEDMESH, of the PATH, or of the repository that this file or the working folder is in."""
    given = binary if binary is not None else os.environ.get("FEDMESH")
    if given:
        if not os.path.isfile(given):
            named = "" if binary is not None else ", which FEDMESH names,"
            raise LocalError(f"the command {os.fspath(given)}{named} is not there; make build makes bin/fedmesh")
        return pathlib.Path(given).resolve()
    on_path = shutil.which("fedmesh")
    if on_path:
        return pathlib.Path(on_path)
    for start in (pathlib.Path(__file__).resolve(), pathlib.Path.cwd() / "here"):
        for parent in start.parents:
            built = parent / "bin" / "fedmesh"
            if (parent / "cmd" / "fedmesh").is_dir() and built.is_file():
                return built
    raise LocalError("no command fedmesh: name one by binary= or FEDMESH, put it on the PATH, or run make build in the repository")


def free_ports(peers: int) -> List[List[int]]:
    """Two ports for each peer that are free for TCP, the second for UDP too; all different."""
    with contextlib.ExitStack() as held:

        def one() -> int:
            for _ in range(100):
                tcp = held.enter_context(socket.socket())
                tcp.bind(("127.0.0.1", 0))
                udp = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                with contextlib.suppress(OSError):
                    udp.bind(tcp.getsockname())
                    return int(tcp.getsockname()[1])
            raise LocalError("no port of the loopback interface is free for both TCP and UDP")

        return [[one(), one()] for _ in range(peers)]


def _kill(processes: Dict[str, subprocess.Popen[bytes]]) -> None:
    for p in processes.values():
        p.kill()
    for p in processes.values():
        p.wait()
