"""A pull across its attempts: a transfer that breaks off goes on at another peer where it stopped, with the same model."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Callable, Mapping, Optional

import numpy as np
from numpy.typing import NDArray

from ._plan import Ask, Peers, Plan, Progress, Sink
from ._problems import DigestMismatch, NothingNewer, Problem, Unreachable
from ._rules import duration
from ._safetensors import PathLike, open_file
from ._types import Model

LONGEST_POLLING = 30.0


def _new_hash() -> Any:
    """BLAKE3, which the standard library has not: without the package the peers' word is taken."""
    try:
        import blake3
    except ImportError:
        return None
    return blake3.blake3()


class Store:
    """Where the bytes go: memory, or a file beside the one that is asked for."""

    def __init__(self, path: Optional[PathLike]) -> None:
        self.size = 0
        self._memory = bytearray()
        self._path = None if path is None else os.path.abspath(os.fspath(path))
        self._part = ""
        self._file: Any = None
        if self._path is not None:
            folder, base = os.path.split(self._path)
            fd, self._part = tempfile.mkstemp(prefix=base + ".", suffix=".part", dir=folder)
            self._file = os.fdopen(fd, "w+b")

    def write(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._file is not None:
            self._file.write(piece)
        else:
            self._memory += piece

    def same(self, at: int, piece: bytes) -> bool:
        """Whether the bytes at an offset are these."""
        if self._file is None:
            return bytes(memoryview(self._memory)[at : at + len(piece)]) == piece
        self._file.seek(at)
        same: bool = self._file.read(len(piece)) == piece
        self._file.seek(0, os.SEEK_END)
        return same

    def done(self) -> NDArray[np.uint8]:
        if self._file is None or self._path is None:
            return np.frombuffer(self._memory, dtype=np.uint8)
        self._file.close()
        os.replace(self._part, self._path)
        self._part = ""
        return open_file(self._path)

    def drop(self) -> None:
        if self._file is not None:
            self._file.close()
            if self._part:
                os.unlink(self._part)
                self._part = ""


class Pull(Sink):
    def __init__(
        self,
        peers: Peers,
        session: str,
        path: str,
        after: str,
        wait: float,
        deadline: float,
        store: Store,
        send: Callable[[Ask], Plan[Any]],
        progress: Optional[Progress],
    ) -> None:
        self.peers, self.session, self.path, self.after = peers, session, path, after
        self.until, self.deadline = peers.clock() + wait, deadline
        self.store, self.send, self.progress = store, send, progress
        self.hash = _new_hash()
        self.digest, self.round, self.peer = "", 0, ""
        self.total = -1
        self.skip = 0  # bytes of the answer that are here already
        self.at = 0  # up to where they were compared

    def attempt(self, peer: str) -> Plan[Model]:
        self.peer = peer
        while True:
            path, headers, query, wait = self.path, {}, {"format": "safetensors"}, 0.0
            if self.store.size:
                path = f"/v1/sessions/{self.session}/models/{self.digest}"
                headers = {"Range": f"bytes={self.store.size}-", "If-Range": f'"{self.digest}"'}
            elif self.after:
                wait = max(0.0, min(self.until - self.peers.clock(), LONGEST_POLLING))  # in pieces, so that a peer that stopped is noticed
                query.update(after=self.after, wait=duration(wait))
            asked = self.peers.clock()
            try:
                answer = yield from self.send(
                    Ask("GET", peer, path, query, headers, sink=self, extra=wait, deadline=self.deadline)
                )
            except Problem as p:
                if self.store.size and p.status == 416:
                    raise DigestMismatch(f"the model is shorter than the {self.store.size} bytes received") from p
                raise
            if answer.status not in (204, 304):
                return self._done()
            if self.peers.clock() >= self.until:
                raise NothingNewer(f"session {self.session} has nothing newer than {self.after[:16]}")
            if self.peers.clock() - asked < wait / 2:
                raise Unreachable(f"{peer} answered before the wait was over")

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        digest, made = headers.get("etag", "").strip('"'), headers.get("fedmesh-round", "")
        if len(digest) != 64 or not (made.isascii() and made.isdigit()):
            raise Unreachable(f"{self.peer} answers without a model's ETag and Fedmesh-Round: not a fedmesh peer?")
        had = self.store.size
        self.skip = self.at = 0
        if not had:
            self.digest, self.round = digest, int(made)
        elif digest != self.digest:
            raise Unreachable(f"{self.peer} sent model {digest[:8]} where {self.digest[:8]} was asked for")
        elif status != 206:
            self.skip = had  # from the start again
        elif not headers.get("content-range", "").startswith(f"bytes {had}-"):
            raise Unreachable(f"{self.peer} sent another range than the one from {had} on")
        length = headers.get("content-length", "")
        self.total = int(length) + (had if status == 206 else 0) if length.isdigit() else -1

    def write(self, piece: bytes) -> None:
        if self.skip:
            old, piece = piece[: self.skip], piece[self.skip :]
            if not self.store.same(self.at, old):
                raise DigestMismatch("two peers sent different bytes of one model")
            self.at += len(old)
            self.skip -= len(old)
        if not piece:
            return
        self.store.write(piece)
        if self.hash is not None:
            self.hash.update(piece)
        if self.progress is not None:
            self.progress(self.store.size, self.total)

    def _done(self) -> Model:
        if self.skip or self.total >= 0 and self.store.size != self.total:
            raise Unreachable(f"{self.peer} broke off after {self.store.size} bytes")
        if self.hash is not None and self.hash.hexdigest() != self.digest:
            raise DigestMismatch(f"announced {self.digest}, received {self.hash.hexdigest()}")
        return Model(self.store.done(), self.digest, self.round, self.session, self.peer)


