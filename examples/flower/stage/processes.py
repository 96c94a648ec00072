"""Processes that are started here, and ended here with all that they started."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


class Failed(RuntimeError):
    """The example cannot go on; the text says why, and where more is to be read."""


class Crew:
    """Processes by name, each with its log."""

    def __init__(self, logs: Path, env: Mapping[str, str]) -> None:
        self.logs, self.env = logs, dict(env)
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, command: Sequence[str | Path]) -> None:
        with open(self.logs / f"{name}.log", "ab") as log:
            self._running[name] = subprocess.Popen(
                [str(c) for c in command], env=self.env, cwd=self.logs, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def alive(self, name: str) -> bool:
        return self._running[name].poll() is None

    def check(self, name: str) -> None:
        """Fail when a process has ended."""
        if not self.alive(name):
            raise Failed(f"{name} ended with {self._running[name].returncode}; {self.logs / name}.log ends:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        return (self.logs / f"{name}.log").read_text(errors="replace")[-2000:]

    def kill(self, name: str) -> list[str]:
        """SIGKILL to a process and all below it, at once; returns the commands killed."""
        process = self._running.pop(name, None)
        if process is None:
            return []
        below = [] if process.poll() is not None else descendants(process.pid)
        for pid in [process.pid, *(pid for pid, _ in below)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        return [command for _, command in below]

    def end(self) -> None:
        for name in list(self._running):
            self.kill(name)


def descendants(pid: int) -> list[tuple[int, str]]:
    """The processes below one, with their commands, as ps has them."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,args="], check=True, capture_output=True, text=True).stdout
    below: dict[int, list[tuple[int, str]]] = {}
    for line in listed.splitlines():
        fields = line.split(None, 2)
        if len(fields) == 3:
            below.setdefault(int(fields[1]), []).append((int(fields[0]), fields[2]))
    found: list[tuple[int, str]] = []
    parents = [pid]
    while parents:
        children = below.get(parents.pop(), [])
        found += children
        parents += [child for child, _ in children]
    return found


def free_port() -> int:
    """One that is free now, and below those that the kernel gives to connections: whoever is to have it takes seconds to start."""
    while True:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", random.randrange(15000, 32768)))
            return int(s.getsockname()[1])


def listens(port: int) -> bool:
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def until(done: Callable[[], bool], what: str, seconds: float = 300, every: float = 0.1) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise Failed(f"after {seconds:.0f} s {what}")
        time.sleep(every)
