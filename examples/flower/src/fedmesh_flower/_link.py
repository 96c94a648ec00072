"""A combiner's end of a session."""

from __future__ import annotations

import dataclasses
import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Any

import fedmesh
from flwr.common.logger import log

from ._advice import MeshRefused, advice
from ._records import Arrays, moved

NOTICE = 10.0  # seconds of silence after which the log says so
POLL = 20.0  # seconds that one request for a newer model waits
KEPT = 4  # updates that wait for the mesh to come back; one more and the oldest goes
AT_ONCE = 100  # rounds looked at in one request
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


@dataclass(frozen=True)
class Update:
    """What a federation has to bring. Pushed again with the same base and id, it counts once."""

    arrays: Arrays
    weight: int
    base: str | None  # digest of the session's model trained from
    base_round: int
    id: str
    metrics: Mapping[str, float]
    start: Arrays | None = None  # without a base: the federation's own mean trained from


class Link:
    """Joins a session, brings updates and takes models. model is the one taken last."""

    def __init__(
        self,
        mesh: fedmesh.Mesh,
        session: str,
        combiner: str,
        open: Mapping[str, Any] | None,
        patience: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.session = mesh.session(session)
        self.combiner = combiner
        self.model: fedmesh.Model | None = None
        self.waiting: list[Update] = []
        self._mesh, self._open, self._patience, self._clock = mesh, open, patience, clock

    def join(self, seed: Arrays) -> fedmesh.Model:
        """The session's present model; a session that is not there is opened with seed. Raises FedmeshError."""
        try:
            self._info()
        except fedmesh.UnknownSession:
            if self._open is None:
                raise
            try:
                self._mesh.open(self.session.name, seed, self._open, timeout=self._patience)
                log(INFO, "mesh: the session %s is open", self.session.name)
            except fedmesh.SessionConflict:
                log(INFO, "mesh: another federation opened the session %s first", self.session.name)
        self.model = self.session.pull(timeout=self._patience)
        return self.model

    def newer(self) -> fedmesh.Model | None:
        """A model newer than the one taken last, when there is one. What waits is pushed on the way. Raises FedmeshError."""
        info = self.session.info(timeout=min(NOTICE, self._patience))
        waited = bool(self.waiting)
        self._catch_up()
        if self.model is not None and info.model_round <= self.model.round and not waited:
            return None
        return self._after(0.0)

    def next(self) -> fedmesh.Model | None:
        """The next model that others make, waiting for as long as a round may take. Raises FedmeshError."""
        config = self._info().config
        return self._after(min(_seconds(config.get("round_timeout")), self._patience))

    def update(self, arrays: Arrays, weight: int, start: Arrays | None, metrics: Mapping[str, float]) -> Update:
        """An update from the model taken last, under its name: one for each base, which a restarted ServerApp finds again. Or from start, a
        mean of the federation's own.
        """
        model = self.model
        assert model is not None
        if start is not None:
            return Update(arrays, weight, None, model.round, f"local-{secrets.token_hex(8)}", metrics, start)
        return Update(arrays, weight, model.digest, model.round, f"r{model.round}-{model.digest[:16]}", metrics)

    def push(self, update: Update) -> None:
        """Bring an update; it waits here when no peer takes it in time. Raises FedmeshError."""
        try:
            self._info()
            update = self._based(update)
            self._push(update)
        except fedmesh.TimedOut:
            self.waiting.append(update)
            if len(self.waiting) > KEPT:
                del self.waiting[0]
                log(WARNING, "mesh: away for long: the oldest of %d updates that wait is given up", KEPT + 1)
            raise

    def counted(self, update: Update) -> tuple[fedmesh.Model, fedmesh.Round]:
        """The model of the round that counts an update. Raises FedmeshError, TimedOut when none has by the end of the patience."""
        deadline, after = self._clock() + self._patience, update.base_round
        while (left := deadline - self._clock()) > 0:
            try:
                newest = self.session.pull(after=after, wait=min(POLL, left), timeout=left)
            except fedmesh.NothingNewer:
                newest = None  # there may still be an older round that was amended
            found = self._counting(update)
            if found is not None:
                if newest is None or newest.round != found.round:
                    newest = self.session.pull(which=found.round, timeout=self._patience)
                self.model = newest
                return newest, found
            if newest is not None:
                after = max(after, newest.round)
        raise fedmesh.TimedOut(f"no round has counted the update {update.id} within {self._patience:.0f} s")

    def _counting(self, update: Update) -> fedmesh.Round | None:
        first = update.base_round + 1
        while True:
            rounds = self.session.rounds(first, AT_ONCE, timeout=self._patience)
            for r in rounds:
                if r.model and r.state != "open" and any(u.combiner == self.combiner and u.id == update.id for u in r.updates):
                    return r
            if len(rounds) < AT_ONCE:
                return None
            first = rounds[-1].round + 1

    def _after(self, wait: float) -> fedmesh.Model | None:
        """A later round's model, not only another one: the peer that answers may be behind."""
        after = self.model.round if self.model is not None else None
        try:
            self.model = self.session.pull(after=after, wait=wait if after is not None else 0.0, timeout=self._patience)
        except fedmesh.NothingNewer:
            return None
        return self.model

    def _based(self, update: Update) -> Update:
        """What started from the federation's own mean is the same step from the session's present model: the steps before it were or are
        pushed by themselves.
        """
        if update.start is None:
            return update
        model = self.session.pull(timeout=self._patience)
        arrays = moved(model, update.start, update.arrays)
        return dataclasses.replace(update, arrays=arrays, base=model.digest, base_round=model.round, start=None)

    def _push(self, update: Update) -> None:
        try:
            self.session.push(
                update.arrays,
                update.weight,
                update.base,
                combiner=self.combiner,
                id=update.id,
                metrics=update.metrics,
                timeout=self._patience,
            )
        except fedmesh.UpdateConflict:
            log(
                WARNING,
                "mesh: %s has brought an update from this model before: that one counts. After a restart this is right; "
                "otherwise another server has the same combiner's name, and one needs another",
                self.combiner,
            )

    def _catch_up(self) -> None:
        while self.waiting:
            self.waiting[0] = self._based(self.waiting[0])
            try:
                self._push(self.waiting[0])
                log(INFO, "mesh: back; the update %s is delivered and counts in a later round", self.waiting[0].id)
            except fedmesh.Problem as e:
                log(WARNING, "mesh: an update that waited is given up: %s", advice(e))
            del self.waiting[0]

    def _info(self) -> fedmesh.SessionInfo:
        """The session as a peer sees it; says so in the log when none answers at once."""
        try:
            info = self.session.info(timeout=min(NOTICE, self._patience))
        except fedmesh.TimedOut as e:
            if self._patience <= NOTICE:
                raise
            left = self._patience - NOTICE
            log(WARNING, "mesh: %s; trying for %.0f s more", advice(e), left)
            info = self.session.info(timeout=left)
        if info.state == "closed":
            raise MeshRefused(f"the session {info.name} is closed: name another one")
        return info


def _seconds(duration: object) -> float:
    """Seconds of a duration as peers write it, "1m30s"."""
    parts = re.findall(r"([0-9.]+)(h|ms|us|µs|ns|m|s)", str(duration))
    return sum(float(n) * _UNITS[unit] for n, unit in parts)
