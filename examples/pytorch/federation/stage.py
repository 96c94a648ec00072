"""The combiners' processes, and the death of a peer."""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import queue
import subprocess
import sys
import threading
from typing import Callable, Dict, List, Optional, Tuple, Union

import fedmesh
from fedmesh.local import LocalMesh

from . import options
from .judge import Death

HERE = pathlib.Path(__file__).resolve().parents[1]
PATIENCE = 600.0  # seconds without a word from any combiner
AWAY = 2  # rounds


class StageError(Exception):
    """A combiner failed."""


class Combiner:
    """One process. What it says is put into heard: receipts, and at the end itself."""

    def __init__(
        self, number: int, local: LocalMesh, session: str, a: argparse.Namespace, heard: queue.Queue[Union[fedmesh.Receipt, Combiner]]
    ) -> None:
        self.name = options.combiner(number)
        first = number % len(local.names)
        self.peers = local.names[first:] + local.names[:first]  # in the order in which it tries them
        self.log = local.folder / f"combiner-{self.name}.log"
        peers = ",".join(local.url(peer) for peer in self.peers)
        command = [sys.executable, "-m", "federation.combiner", f"--peers={peers}", f"--session={session}", f"--number={number}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([*command, *options.learning(a)], cwd=HERE, stdout=subprocess.PIPE, stderr=log)
        self.wrong = ""
        self._heard = heard
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        try:
            for line in self.process.stdout or ():
                self._heard.put(fedmesh.Receipt(**json.loads(line)))
        except (ValueError, TypeError) as e:
            self.wrong = f", after an answer that is no receipt ({e})"
            self.process.kill()
        self.process.wait()
        self._heard.put(self)

    def checked(self) -> None:
        if self.process.returncode != 0:
            tail = self.log.read_bytes()[-2000:].decode(errors="replace").strip()
            raise StageError(f"combiner {self.name} ended with code {self.process.returncode}{self.wrong}; it said at last:\n{tail}")

    def end(self) -> None:
        self.process.kill()
        self._reader.join()
        if self.process.stdout:
            self.process.stdout.close()


def play(
    local: LocalMesh, session: str, a: argparse.Namespace, progress: Callable[[str], None]
) -> Tuple[List[fedmesh.Receipt], Optional[Death]]:
    """Let all combiners train; when half of them have their receipts for the round in the middle, kill a peer that holds one of these."""
    heard: queue.Queue[Union[fedmesh.Receipt, Combiner]] = queue.Queue()
    receipts: List[fedmesh.Receipt] = []
    death: Optional[Death] = None
    combiners: Dict[str, Combiner] = {}
    try:
        for number in range(a.combiners):
            c = Combiner(number, local, session, a, heard)
            combiners[c.name] = c
        working = len(combiners)
        while working:
            try:
                said = heard.get(timeout=PATIENCE)
            except queue.Empty:
                raise StageError(f"no word from any combiner in {PATIENCE:.0f} s; --dir keeps their logs") from None
            if isinstance(said, Combiner):
                said.checked()
                working -= 1
                continue
            receipts.append(said)
            opened = said.round + 1
            there = [r for r in receipts if r.round == said.round]
            progress(f"round {opened} of {a.rounds}: {len(there)} of {a.combiners} updates" + _away(death))
            if a.kill == "middle" and death is None and opened == a.rounds // 2 and len(there) == a.combiners // 2:
                victim = _victim(said, [c for name, c in combiners.items() if name not in {r.combiner for r in there}])
                local.kill(victim)
                death = Death(victim, opened, len(there))
            elif death is not None and death.returned is None and opened >= death.round + AWAY:
                local.restart(death.peer)
                death = dataclasses.replace(death, returned=opened)
        return receipts, death
    finally:
        for c in combiners.values():
            c.end()


def _victim(receipt: fedmesh.Receipt, training: List[Combiner]) -> str:
    """A holder of the update, if possible one whom a combiner that still trains will go to first."""
    first = {c.peers[0] for c in training}
    return next((peer for peer in receipt.copies if peer in first), receipt.copies[0])


def _away(death: Optional[Death]) -> str:
    return "" if death is None else f"; peer {death.peer} was killed" + (" and is back" if death.returned else "")
