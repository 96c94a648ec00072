"""What the two drivers have in common: how an Ask looks to httpx."""

from __future__ import annotations

import os
import socket
import ssl
import time
from typing import Any, Dict, Optional, Tuple, Union

import httpx

from ._plan import ANSWER, CONNECT, IDLE, MAX_ANSWER, Answer, Ask
from ._problems import InvalidArgument, Unreachable

Cert = Union[str, "os.PathLike[str]", Tuple[str, str], None]

# What is sent and not received must be sent again when a peer dies. The kernel makes twice that.
SOCKET = [(socket.SOL_SOCKET, socket.SO_SNDBUF, 512 << 10)]
LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=32, keepalive_expiry=30.0)


def headers_of(token: Optional[str]) -> Dict[str, str]:
    headers = {"User-Agent": "fedmesh-python", "Accept-Encoding": "identity"}
    if token is not None:
        token = token.strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidArgument("the token is not one line of printable ASCII; it is what fedmesh token new prints")
        headers["Authorization"] = "Bearer " + token
    return headers


def context(ca: Union[str, "os.PathLike[str]", None], cert: Cert) -> Union[ssl.SSLContext, bool]:
    if ca is None and cert is None:
        return True
    made = ssl.create_default_context(cafile=None if ca is None else os.fspath(ca))
    if isinstance(cert, tuple):
        made.load_cert_chain(*cert)
    elif cert is not None:
        made.load_cert_chain(os.fspath(cert))
    return made


def left(a: Ask) -> float:
    """Seconds to the end of the timeout."""
    n = a.deadline - time.monotonic()
    if n <= 0:
        raise Unreachable(f"{a.peer}: the timeout is over")
    return n


def arguments(a: Ask) -> Dict[str, Any]:
    """Of client.build_request, but for the content."""
    n = left(a)
    headers = dict(a.headers)
    if a.body is not None:
        headers["Content-Length"] = str(a.body.size - a.start)
    return {
        "method": a.method,
        "url": a.peer + a.path,
        "params": dict(a.query) or None,
        "headers": headers,
        "timeout": httpx.Timeout(connect=min(CONNECT, n), read=min(ANSWER + a.extra, n), write=min(IDLE, n), pool=min(ANSWER, n)),
    }


def lowered(r: httpx.Response) -> Dict[str, str]:
    return {k.lower(): v for k, v in r.headers.items()}


def wanted(a: Ask, r: httpx.Response) -> bool:
    """Whether the body goes to the sink."""
    return a.sink is not None and r.status_code in (200, 206)


def grown(a: Ask, body: bytearray, piece: bytes) -> None:
    left(a)
    body += piece
    if len(body) > MAX_ANSWER:
        raise Unreachable(f"{a.peer}: the answer has more than {MAX_ANSWER} bytes")


def answer(a: Ask, r: httpx.Response, body: bytes) -> Answer:
    return Answer(r.status_code, lowered(r), body, a.peer)


def unreachable(a: Ask, e: Exception) -> Unreachable:
    said = str(e) or type(e).__name__
    if isinstance(e, httpx.TimeoutException):
        said = "no connection in time" if isinstance(e, httpx.ConnectTimeout) else "the peer stalled"
    return Unreachable(f"{a.peer}: {said}", refused=isinstance(e, httpx.ConnectError))
