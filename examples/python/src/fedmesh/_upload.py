"""A push by resumable upload, tus 1.0.0. An upload's path is the same at every peer that has some of it."""

from __future__ import annotations

from typing import Any, Callable, Generator, Mapping, Optional, Tuple
from urllib.parse import urlsplit

from ._plan import BAD_FOR, MAX_RETRY_AFTER, Answer, Ask, Peers, Plan, Progress, Sleep, Together
from ._problems import Problem, Unreachable
from ._safetensors import Body

SAME_TRIES = 3  # how often the peer that an upload broke off at is asked for it before others are
BARREN = 5  # connections in a row that may bring nothing
ASK_FOR = 5.0  # seconds that a peer may take to tell how far an upload has come
ABANDONED_IN = 0.5  # for the farewell to an upload that is not needed
TUS = {"Tus-Resumable": "1.0.0"}


class Upload:
    def __init__(
        self,
        peers: Peers,
        path: str,
        query: Mapping[str, str],
        body: Body,
        deadline: float,
        put: Callable[[str], Plan[Answer]],
        send: Callable[[Ask], Plan[Answer]],
        progress: Optional[Progress],
    ) -> None:
        self.peers, self.path, self.query, self.body = peers, path, query, body
        self.deadline, self.put, self.send, self.progress = deadline, put, send, progress
        self.upload = ""  # its path; empty before it is begun
        self.at = ""  # the peer that has it
        self.offset = 0  # where it stands there, as far as is known
        self.handed = 0  # up to where the body was given to the connection
        self.sent = 0  # bytes given to connections, those sent again included

    def attempt(self, peer: str) -> Plan[Answer]:
        """Deliver the update to a peer; what others have of it already is gone on with there."""
        if self.upload:
            found = yield from self._locate()
            if found is None:
                self.upload = ""
            else:
                self._resume(*found)
        if not self.upload:
            try:
                yield from self._begin(peer)
            except Problem as p:
                if p.names("unknown-route") or p.status in (405, 501):
                    return (yield from self.put(peer))
                raise
        try:
            try:
                return (yield from self._carry())
            except Problem as p:
                if not p.names("unknown-upload"):
                    raise
            yield from self._begin(self.at)  # it ended there, for whatever reason
            return (yield from self._carry())
        except Problem as p:
            self._blame(peer)
            if p.names("unknown-upload"):
                self.upload = ""
                raise Unreachable(f"{self.at} ended the upload: {p}") from p
            raise
        except Unreachable:
            self._blame(peer)
            raise

    def _blame(self, peer: str) -> None:
        if self.at != peer:
            self.peers.mark(self.at, BAD_FOR)

    def _begin(self, peer: str) -> Plan[None]:
        headers = {**TUS, "Upload-Length": str(self.body.size)}
        answer = yield from self.send(Ask("POST", peer, self.path, self.query, headers, deadline=self.deadline))
        location = urlsplit(answer.headers.get("location", ""))
        if answer.status != 201 or not location.path.startswith("/") or location.query:
            raise Unreachable(f"{peer} began no upload: {answer.status}, Location {answer.headers.get('location', '')[:200]!r}")
        self.upload, self.at, self.offset, self.handed = location.path, peer, 0, 0

    def _carry(self) -> Plan[Answer]:
        """Bring the rest to where the upload is. Where a connection breaks, go on with the next, as long as they bring anything."""
        idle = 0
        while True:
            before = self.offset
            try:
                yield from self._piece()
                return (yield from self.send(Ask("GET", self.at, self.upload, deadline=self.deadline)))
            except Problem as p:
                if not p.passing and not p.names("upload-conflict") and not p.names("upload-incomplete"):
                    raise
                failure: Exception = p
                if p.retry_after > 0:
                    rest = self.peers.backoff(1, min(p.retry_after, MAX_RETRY_AFTER))
                    yield Sleep(max(min(rest, self.deadline - self.peers.clock()), 0.0))
            except Unreachable as e:
                failure = e
            if self.peers.clock() >= self.deadline:
                raise failure
            offset = yield from self._again()
            if offset is None or idle >= BARREN:
                raise failure
            idle = 0 if offset > before else idle + 1
            self._resume(self.at, offset)

    def _piece(self) -> Plan[None]:
        if self.offset == self.body.size:
            return
        headers = {**TUS, "Upload-Offset": str(self.offset), "Content-Type": "application/offset+octet-stream"}
        answer = yield from self.send(
            Ask(
                "PATCH", self.at, self.upload, {}, headers, self.body, self.offset, deadline=self.deadline, handed=self._handed
            )
        )
        self.offset = _offset(answer)
        if self.offset != self.body.size:
            raise Unreachable(f"{self.at} took all and stands at {self.offset} of {self.body.size} bytes")

    def _handed(self, n: int) -> None:
        self.handed += n
        self.sent += n
        if self.progress is not None:
            self.progress(self.handed, self.body.size)

    def _again(self) -> Plan[Optional[int]]:
        """Ask the peer that an upload broke off at how far it came. None: it has lost it. What it was refused for is raised."""
        for passes in range(1, SAME_TRIES + 1):
            if self.peers.clock() >= self.deadline:
                break
            try:
                answer = yield self._head(self.at)
                return self._stands(answer.checked())
            except Problem as p:
                if p.names("unknown-upload"):
                    return None
                if not p.passing:  # the answer was lost with the connection that brought the fault; HEAD has no text
                    yield from self.send(Ask("GET", self.at, self.upload, deadline=self.deadline))
                    raise
            except Unreachable as e:
                if e.refused:
                    return None
            yield Sleep(self.peers.backoff(passes))
        return None

    def _head(self, peer: str) -> Ask:
        return Ask("HEAD", peer, self.upload, headers=TUS, deadline=min(self.deadline, self.peers.clock() + ASK_FOR))

    def _stands(self, answer: Answer) -> int:
        n = _offset(answer)
        if n > self.body.size:
            raise Unreachable(f"{answer.peer} stands at {n} of {self.body.size} bytes")
        return n

    def _locate(self) -> Plan[Optional[Tuple[str, int]]]:
        """Who has most of the upload; those that failed lately are asked only when no other has any."""
        for peers in self.peers.standing():
            if not peers:
                continue
            results = yield Together([self._head(p) for p in peers])
            best: Tuple[int, str] = (0, "")
            for result in results:
                try:
                    if isinstance(result, Answer):
                        best = max(best, (self._stands(result.checked()), result.peer))
                except (Problem, Unreachable):
                    continue
            if best[0] > 0:
                return best[1], best[0]
        return None

    def _resume(self, at: str, offset: int) -> None:
        self.at, self.offset, self.handed = at, offset, offset

    def abandon(self) -> Generator[Any, Any, None]:
        """Tell the peer that nothing more comes, when the push has failed."""
        if not self.upload:
            return
        try:
            yield Ask("DELETE", self.at, self.upload, headers=TUS, deadline=self.peers.clock() + ABANDONED_IN)
        except Unreachable:
            pass


def _offset(answer: Answer) -> int:
    said = answer.headers.get("upload-offset", "")
    if not (said.isascii() and said.isdigit() and len(said) < 20):
        raise Unreachable(f"{answer.peer} answers without Upload-Offset")
    return int(said)


