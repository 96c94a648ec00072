"""The plans of all calls."""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import Any, List, Mapping, Optional, Tuple, Union

from . import _rules
from ._plan import Answer, Ask, Peers, Plan, Progress, Sleep, ask
from ._problems import InvalidArgument, ModelGone, TimedOut, UnknownRound, Unreachable
from ._pull import LONGEST_POLLING, Pull, Store
from ._safetensors import Body, PathLike, Wrapped, body_of
from ._types import Model, Receipt, Round, SessionInfo, Status, read, read_list
from ._upload import Upload

Base = Union[str, Model, None]
RESUME_FROM = 16 << 20
POLL = 0.25  # seconds between two looks where no long poll tells


class Calls:
    def __init__(self, peers: Peers, resume_from: int, timeout: Optional[float]) -> None:
        self.peers = peers
        self.resume_from = resume_from
        self.timeout = timeout

    def _deadline(self, timeout: Union[float, None, "Default"]) -> float:
        return self.peers.clock() + _rules.timeout(self.timeout if isinstance(timeout, Default) else timeout)

    def _get(self, what: str, path: str, query: Mapping[str, str], deadline: float, method: str = "GET") -> Plan[Any]:
        send = _named()

        def attempt(peer: str) -> Plan[Any]:
            answer = yield from send(Ask(method, peer, path, query, deadline=deadline))
            return _json(answer)

        return self.peers.go(what, deadline, attempt)

    def sessions(self, timeout: Timeout) -> Plan[List[SessionInfo]]:
        found = yield from self._get("list sessions", "/v1/sessions", {}, self._deadline(timeout))
        return read_list(SessionInfo, found, "sessions")

    def status(self, timeout: Timeout) -> Plan[Status]:
        found = yield from self._get("get mesh", "/v1/mesh", {}, self._deadline(timeout))
        return read(Status, found)

    def info(self, session: str, deadline: float) -> Plan[SessionInfo]:
        found = yield from self._get(f"get session {session}", _path(session), {}, deadline)
        return read(SessionInfo, found)

    def describe(self, session: str, timeout: Timeout) -> Plan[SessionInfo]:
        return self.info(session, self._deadline(timeout))

    def close(self, session: str, timeout: Timeout) -> Plan[SessionInfo]:
        found = yield from self._get(f"close session {session}", _path(session) + "/close", {}, self._deadline(timeout), "POST")
        return read(SessionInfo, found)

    def rounds(self, session: str, first: int, limit: int, timeout: Timeout) -> Plan[List[Round]]:
        query = {k: str(v) for k, v in {"from": first, "limit": limit}.items() if v}
        found = yield from self._get(f"list rounds {session}", _path(session) + "/rounds", query, self._deadline(timeout))
        return read_list(Round, found, "rounds")

    def round(self, session: str, number: int, deadline: float) -> Plan[Round]:
        found = yield from self._get(f"get round {number} of {session}", f"{_path(session)}/rounds/{int(number)}", {}, deadline)
        return read(Round, found)

    def wait(self, session: str, number: Optional[int], state: str, timeout: Timeout) -> Plan[Round]:
        """Wait until a round has its model, or until it is final."""
        if state not in ("settled", "final"):
            raise InvalidArgument(f"state is {state!r}; known: settled, final")
        deadline = self._deadline(timeout)
        enough = ("settled", "final") if state == "settled" else ("final",)
        while True:
            info = yield from self.info(session, deadline)
            number = info.round if number is None else number
            try:
                found = yield from self.round(session, number, deadline)
                if found.state in enough:
                    return found
            except UnknownRound:
                if info.state == "closed":
                    raise
            if info.model_round < number:
                yield from self._next(session, info.model_round, deadline)
            yield Sleep(max(min(POLL, deadline - self.peers.clock()), 0.0))

    def _next(self, session: str, after: int, deadline: float) -> Plan[None]:
        """Wait for a model newer than that of a round, for a while, without taking it."""
        send = _named()
        wait = max(min(LONGEST_POLLING, deadline - self.peers.clock()), 0.0)

        def attempt(peer: str) -> Plan[None]:
            query = {"after": str(after), "wait": _rules.duration(wait)}
            yield from send(Ask("HEAD", peer, _path(session) + "/model", query, extra=wait, deadline=deadline + 1))

        yield from self.peers.go(f"wait for {session}", deadline, attempt)

    def open(self, name: str, seed: Any, config: Optional[Mapping[str, Any]], timeout: Timeout) -> Plan[SessionInfo]:
        path, deadline = _path(name), self._deadline(timeout)
        boundary = "fedmesh-" + secrets.token_hex(16)
        part = '--%s\r\nContent-Disposition: form-data; name="%s"\r\nContent-Type: application/%s\r\n\r\n'
        config_head = (part % (boundary, "config", "json")).encode()
        seed_head = (part % (boundary, 'seed"; filename="seed', "octet-stream")).encode()
        head = config_head + _rules.config(config) + b"\r\n" + seed_head
        form = Wrapped(head, body_of(seed), f"\r\n--{boundary}--\r\n".encode())
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
        send = _named()

        def attempt(peer: str) -> Plan[SessionInfo]:
            answer = yield from send(Ask("PUT", peer, path, {}, headers, form, deadline=deadline))
            return read(SessionInfo, _json(answer))

        return (yield from self.peers.go(f"open session {name}", deadline, attempt))

    def push(
        self,
        session: str,
        model: Any,
        weight: int,
        base: Base,
        combiner: Optional[str],
        id: Optional[str],
        metrics: Optional[Mapping[str, float]],
        progress: Optional[Progress],
        timeout: Timeout,
    ) -> Plan[Receipt]:
        if combiner is None:
            raise InvalidArgument("no combiner: name the one that pushes, here or in Mesh(combiner=…)")
        path = f"{_path(session)}/updates/{_rules.name('combiner', combiner)}"
        query = {"weight": _rules.weight(weight), **_rules.metrics(metrics)}
        body = body_of(model, base.dtypes if isinstance(base, Model) else None)
        deadline = self._deadline(timeout)
        query["base"], name = yield from self._settle(session, base, id, deadline)
        if name:
            query["id"] = name
        send = _named(tries=True)
        request: str = send.request
        told = _Told(progress, body)

        def put(peer: str) -> Plan[Answer]:
            told.at = 0
            headers = {"Content-Type": "application/octet-stream"}
            return send(Ask("PUT", peer, path, query, headers, body, deadline=deadline, handed=told))

        upload = Upload(self.peers, path, query, body, deadline, put, send, progress)

        def attempt(peer: str) -> Plan[Receipt]:
            answer = yield from (upload.attempt(peer) if body.size >= self.resume_from else put(peer))
            return read(Receipt, _json(answer))

        try:
            receipt = yield from self.peers.go(f"push to {session}", deadline, attempt)
        except GeneratorExit:
            raise
        except BaseException as e:
            if isinstance(e, TimedOut):
                e.base, e.id = query["base"], name
            yield from upload.abandon()
            raise
        return dataclasses.replace(receipt, request=request, sent=told.sent + upload.sent)

    def _settle(self, session: str, base: Base, id: Optional[str], deadline: float) -> Plan[Tuple[str, str]]:
        """Base and id, before the first attempt: every attempt carries the same, so that an update whose receipt was lost counts once."""
        if id is not None:
            _rules.update_id(id)
        if isinstance(base, Model):
            digest, made = base.digest, base.round
        elif base is None or base == "latest":
            digest, made = yield from self._latest(session, deadline)
        else:
            digest = _rules.digest("base", base)
            if id is not None:
                return digest, id
            try:
                made = yield from self._made(session, digest, deadline)
            except ModelGone:
                return digest, ""  # the peers name it the same way, if they have counted it, and else refuse it
        return digest, id or f"r{made}-{digest[:16]}"

    def _latest(self, session: str, deadline: float) -> Plan[Tuple[str, int]]:
        """The session's present model, as told by a peer that has it: one that has only just heard of the session may not yet."""
        send = _named()

        def attempt(peer: str) -> Plan[Tuple[str, int]]:
            info = read(SessionInfo, _json((yield from send(Ask("GET", peer, _path(session), deadline=deadline)))))
            if not info.model:
                raise Unreachable(f"{peer} does not hold the session's model yet")
            return info.model, info.model_round

        return (yield from self.peers.go(f"get session {session}", deadline, attempt))

    def _made(self, session: str, digest: str, deadline: float) -> Plan[int]:
        """Which round made a model."""
        send = _named()

        def attempt(peer: str) -> Plan[int]:
            answer = yield from send(Ask("HEAD", peer, f"{_path(session)}/models/{digest}", deadline=deadline))
            said = answer.headers.get("fedmesh-round", "")
            if not (said.isascii() and said.isdigit()):
                raise Unreachable(f"{peer} answers without Fedmesh-Round: not a fedmesh peer?")
            return int(said)

        return (yield from self.peers.go(f"head of {session}", deadline, attempt))

    def pull(
        self,
        session: str,
        after: Union[str, int, Model, None],
        wait: float,
        which: Union[str, int, None],
        path: Optional[PathLike],
        progress: Optional[Progress],
        timeout: Timeout,
    ) -> Plan[Model]:
        if which is not None and after is not None:
            raise InvalidArgument("after and which exclude each other")
        if wait and after is None:
            raise InvalidArgument("wait says how long to wait for a model newer than after; give that too")
        after_text = after.digest if isinstance(after, Model) else "" if after is None else str(after)
        where = _path(session) + ("/model" if which is None else f"/models/{_which(which)}")
        deadline = self._deadline(timeout) + wait
        store = Store(path)
        try:
            pull = Pull(self.peers, session, where, after_text, wait, deadline, store, _named(), progress)
            return (yield from self.peers.go(f"pull from {session}", deadline, pull.attempt))
        finally:
            store.drop()


class Default:
    """The mesh's timeout."""


DEFAULT = Default()
Timeout = Union[float, None, Default]


class _Told:
    """Counts what is handed over in a PUT."""

    def __init__(self, progress: Optional[Progress], body: Body) -> None:
        self.progress, self.size = progress, body.size
        self.at = self.sent = 0

    def __call__(self, n: int) -> None:
        self.at += n
        self.sent += n
        if self.progress is not None:
            self.progress(self.at, self.size)


class _named:
    """Sends requests under one id, which the logs of all peers have that have to do with them."""

    def __init__(self, tries: bool = False) -> None:
        self.request = secrets.token_hex(8)
        self._tries = 0 if tries else None

    def __call__(self, a: Ask) -> Plan[Answer]:
        headers = {**a.headers, "Fedmesh-Request": self.request}
        if self._tries is not None:
            self._tries += 1
            headers["Fedmesh-Try"] = str(self._tries)
        return ask(dataclasses.replace(a, headers=headers))


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError) as e:
        raise Unreachable(f"{answer.peer} answers {answer.status} without JSON: not a fedmesh peer?") from e


def _path(session: str) -> str:
    return "/v1/sessions/" + _rules.name("session", session)


def _which(which: Union[str, int]) -> str:
    if isinstance(which, int):
        if which < 0:
            raise InvalidArgument(f"which is {which}; it must be a round from 0 on, or a digest")
        return str(which)
    return _rules.digest("model", which)
