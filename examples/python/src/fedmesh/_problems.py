"""Everything that is raised on purpose."""

from __future__ import annotations

import http
import json
from typing import Any, Dict, Mapping, Optional, Type

PREFIX = "urn:fedmesh:problem:"


class FedmeshError(Exception):
    """The root of all exceptions of this package."""


class InvalidArgument(FedmeshError, ValueError):
    """An argument that every peer would refuse; nothing was sent."""


class UnsupportedArray(FedmeshError, TypeError):
    """A value that is no array, or one of a dtype that models do not have."""


class BadFile(FedmeshError, ValueError):
    """A file, or a peer's answer, that is no safetensors model."""


class NothingNewer(FedmeshError):
    """A pull with after= found nothing newer by the end of its wait."""


class DigestMismatch(FedmeshError):
    """The bytes received are not those of the model that was announced."""


class TimedOut(FedmeshError, TimeoutError):
    """No peer had done it by the end of the timeout; __cause__ is the last failure.

    After a push, base and id are those that it had: pushed again with the same, it counts once, whatever came of the first.
    """

    base: str = ""
    id: str = ""


class Unreachable(FedmeshError, ConnectionError):
    """A connection failed, stalled or brought nonsense. Another peer is asked; seen by users as the cause of TimedOut only."""

    def __init__(self, text: str, refused: bool = False) -> None:
        super().__init__(text)
        self.refused = refused


class Problem(FedmeshError):
    """An error that a peer told (RFC 9457)."""

    def __init__(
        self,
        type: str,
        title: str,
        detail: str,
        status: int,
        extensions: Optional[Mapping[str, Any]] = None,
        retry_after: float = 0.0,
        peer: str = "",
    ) -> None:
        self.type = type  # a URN; "about:blank" for an answer that is not a peer's
        self.title = title
        self.detail = detail
        self.status = status
        self.extensions: Dict[str, Any] = dict(extensions or {})
        self.retry_after = retry_after  # seconds, 0 when the peer does not say
        self.peer = peer
        super().__init__(printable(f"{title}: {detail} ({status})" if detail else f"{title} ({status})"))

    def __reduce__(self) -> Any:
        return (
            _again,
            (self.type, self.title, self.detail, self.status, self.extensions, self.retry_after, self.peer),
        )

    @property
    def passing(self) -> bool:
        """Whether another peer, or another time, may answer otherwise."""
        return self.status >= 500 or self.status in (408, 429)

    @property
    def unknown_here(self) -> bool:
        """Whether it says only that this peer has not heard of something."""
        return isinstance(self, (UnknownSession, UnknownModel, UnknownRound, ModelGone))

    def names(self, kind: str) -> bool:
        return self.type == PREFIX + kind


class InvalidRequest(Problem):
    """400: a parameter, a name or a config."""


class UnreadableModel(Problem):
    """400: the body is no model."""


class Unauthorized(Problem):
    """401: no token, or one that is not let in."""


class Forbidden(Problem):
    """403: the token may not do this."""


class NotFound(Problem):
    """404."""


class UnknownSession(NotFound):
    """404: no peer knows the session."""


class UnknownModel(NotFound):
    """404: no such model in the session."""


class UnknownRound(NotFound):
    """404: there is no such round yet."""


class Gone(Problem):
    """410."""


class ModelGone(Gone):
    """410: no peer in reach keeps the model any more."""


class BaseGone(Gone):
    """410: no peer in reach keeps the base any more: pull, and train from that."""


class Conflict(Problem):
    """409."""


class SessionConflict(Conflict):
    """409: another session has this name."""


class SessionClosed(Conflict):
    """409: the session accepts nothing any more."""


class UpdateConflict(Conflict):
    """409: the combiner has pushed another update under this id."""


class TooLarge(Problem):
    """413."""


class WrongLayout(Problem):
    """422: names, dtypes or shapes other than the session's."""


class InvalidValue(Problem):
    """422: an element is NaN, infinite or out of range."""


class Unavailable(Problem):
    """5xx, 408 or 429: another peer was asked; seen by users as the cause of TimedOut only."""


class StorageFull(Unavailable):
    """507: the peer has no room."""


class UnknownBase(Unavailable):
    """503: no peer in reach has the base."""


_KINDS: Dict[str, Type[Problem]] = {
    "invalid-request": InvalidRequest,
    "unreadable-model": UnreadableModel,
    "unauthorized": Unauthorized,
    "forbidden": Forbidden,
    "unknown-session": UnknownSession,
    "unknown-model": UnknownModel,
    "unknown-round": UnknownRound,
    "model-gone": ModelGone,
    "base-gone": BaseGone,
    "session-conflict": SessionConflict,
    "session-closed": SessionClosed,
    "update-conflict": UpdateConflict,
    "too-large": TooLarge,
    "wrong-layout": WrongLayout,
    "invalid-value": InvalidValue,
    "storage-full": StorageFull,
    "unknown-base": UnknownBase,
}
_STATUSES: Dict[int, Type[Problem]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    408: Unavailable,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    429: Unavailable,
}


def _again(
    type: str, title: str, detail: str, status: int, extensions: Mapping[str, Any], retry_after: float, peer: str
) -> Problem:
    cls = _KINDS.get(type[len(PREFIX) :]) if type.startswith(PREFIX) else None
    if cls is None:
        cls = Unavailable if status >= 500 else _STATUSES.get(status, Problem)
    return cls(type, title, detail, status, extensions, retry_after, peer)


def read_problem(status: int, headers: Mapping[str, str], body: bytes, peer: str) -> Problem:
    """The problem in an answer that is no success. The names of headers are lower case."""
    members: Dict[str, Any] = {}
    if headers.get("content-type", "").split(";")[0].strip().lower() == "application/problem+json":
        try:
            loaded = json.loads(body)
        except ValueError:
            loaded = None
        if isinstance(loaded, dict):
            members = loaded
    kind = _text(members.pop("type", None))
    title = _text(members.pop("title", None))
    detail = _text(members.pop("detail", None))
    members.pop("status", None)
    if not kind:
        detail = detail or body[:300].decode("utf-8", "replace").strip()
        told = headers.get("fedmesh-problem", "")  # of an answer to HEAD
        kind = told if told.startswith(PREFIX) else "about:blank"
    if not title:
        try:
            title = http.HTTPStatus(status).phrase
        except ValueError:
            title = "Unexpected answer"
    return _again(kind, title, detail, status, members, retry_after(headers), peer)


def retry_after(headers: Mapping[str, str]) -> float:
    """The seconds form; dates and nonsense count as absent."""
    said = headers.get("retry-after", "")
    return float(said) if said.isascii() and said.isdigit() and len(said) < 10 else 0.0


def printable(text: str) -> str:
    """Without control characters, since it may come from a stranger and go to a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
