"""How a call goes from peer to peer, without I/O.

A plan is a generator. It yields what is to be done, Ask, Sleep or Together, and is sent what came of it; failures are thrown into it. What it
returns is the call's result. _sync and _async do what plans yield, so both have the same plans.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Generator, List, Mapping, Optional, Sequence, Tuple, TypeVar, Union
from urllib.parse import urlsplit

from ._problems import InvalidArgument, Problem, TimedOut, Unreachable, read_problem
from ._safetensors import Body

CONNECT, ANSWER, IDLE = 2.0, 30.0, 30.0  # seconds to connect, to the answer's header, and without a byte moved
BAD_FOR = 5.0  # how long a peer that failed is tried after the others
FIRST_BACKOFF, MAX_BACKOFF, MAX_RETRY_AFTER = 0.1, 3.0, 30.0
PATIENT_PASSES = 3  # passes after which "unknown" counts, though some peers did not answer
MAX_ANSWER = 64 << 20  # bytes of a JSON answer

T = TypeVar("T")
Progress = Callable[[int, int], None]


class Sink:
    """Takes the body of a 200 or 206."""

    def begin(self, status: int, headers: Mapping[str, str]) -> None:
        raise NotImplementedError

    def write(self, piece: bytes) -> None:
        raise NotImplementedError


@dataclass
class Ask:
    """One request to one peer."""

    method: str
    peer: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Optional[Body] = None
    start: int = 0  # from which byte of body on
    sink: Optional[Sink] = None
    extra: float = 0.0  # how much longer than usual the answer may take
    deadline: float = float("inf")
    handed: Optional[Callable[[int], None]] = None  # told of the bytes of each piece given to the connection


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]  # lower case
    body: bytes
    peer: str

    def checked(self) -> Answer:
        if self.status >= 300 and self.status != 304:
            raise read_problem(self.status, self.headers, self.body, self.peer)
        return self


@dataclass
class Sleep:
    seconds: float


@dataclass
class Together:
    """Several requests at a time; its results are answers and the failures of those that failed."""

    asks: List[Ask]


Effect = Union[Ask, Sleep, Together]
Plan = Generator[Effect, Any, T]


def ask(a: Ask) -> Plan[Answer]:
    answer: Answer = yield a
    return answer.checked()


class Peers:
    """The peers of a mesh and which of them failed lately, shared by all calls."""

    def __init__(
        self,
        urls: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
        rand: Callable[[], float] = random.random,
    ) -> None:
        self.urls = list(urls)
        self.clock = clock
        self.rand = rand
        self._bad: Dict[str, float] = {}

    def standing(self) -> Tuple[List[str], List[str]]:
        now = self.clock()
        bad = [u for u in self.urls if now < self._bad.get(u, 0.0)]
        return [u for u in self.urls if u not in bad], bad

    def mark(self, peer: str, bad_for: float) -> None:
        self._bad[peer] = self.clock() + bad_for

    def backoff(self, passes: int, wait: float = 0.0) -> float:
        """Exponentially longer, jittered, and as the peers ask within reason."""
        d = min(FIRST_BACKOFF * 2.0 ** min(passes - 1, 10), MAX_BACKOFF)
        d = d / 2 + d / 2 * self.rand()
        return wait + min(d, FIRST_BACKOFF) if wait > 0 else d

    def go(self, what: str, deadline: float, attempt: Callable[[str], Plan[T]]) -> Plan[T]:
        """Call attempt with one peer after the other until one has done it.

        What a connection fails at, 5xx, 408 and 429 move on to the next. Other problems are answers. What one peer does not know the others
        are asked for, who may have heard earlier; when none has, that is the answer.
        """
        resting: Dict[str, float] = {}  # until when those are left alone that asked for it
        last: Optional[Exception] = None
        passes = 0
        while True:
            passes += 1
            unknown: Optional[Problem] = None
            failed = False
            good, bad = self.standing()
            for peer in good + bad:
                now = self.clock()
                if now >= deadline:
                    break
                if now < resting.get(peer, 0.0):
                    failed = True
                    continue
                rest = BAD_FOR
                try:
                    result = yield from attempt(peer)
                except Problem as p:
                    if p.unknown_here:
                        unknown = p
                        continue
                    if not p.passing:
                        raise
                    last = p
                    if p.retry_after > 0:
                        rest = min(p.retry_after, MAX_RETRY_AFTER)
                        resting[peer] = self.clock() + rest
                except Unreachable as e:
                    if last is None or self.clock() < deadline:  # one that the end of the timeout cut short says less than the one before
                        last = e
                else:
                    self.mark(peer, 0.0)
                    return result
                failed = True
                self.mark(peer, rest)
            now = self.clock()
            if unknown is not None and (not failed or passes >= PATIENT_PASSES or now >= deadline):
                raise unknown
            if now >= deadline:
                of = "the peer" if len(self.urls) == 1 else f"none of the {len(self.urls)} peers"
                raise TimedOut(f"{what}: {of} could within the timeout" + (f"; last: {last}" if last else "")) from last
            wait = min(max(resting.get(u, 0.0) - now, 0.0) for u in self.urls)
            yield Sleep(min(self.backoff(passes, wait), deadline - now))


def urls_of(peers: Union[str, Sequence[str]], tls: bool) -> List[str]:
    """http://host:port, or https, of what people write."""
    given = peers.split(",") if isinstance(peers, str) else list(peers)
    out: List[str] = []
    for one in given:
        raw = one.strip()
        if not raw:
            continue
        if "://" not in raw:
            raw = ("https://" if tls else "http://") + raw
        try:
            u = urlsplit(raw)
            good = u.scheme in ("http", "https") and bool(u.hostname) and (u.port is None or u.port > 0)
            bare = not u.path.strip("/") and not u.query and not u.fragment and u.username is None
        except ValueError:
            good = bare = False
        if not good or not bare:
            raise InvalidArgument(f"the peer {one!r} is neither host:port nor http://host:port or https://host:port")
        url = f"{u.scheme}://{u.netloc}"
        if url not in out:
            out.append(url)
    if not out:
        raise InvalidArgument("no peers given; give at least one as host:port or URL")
    return out
