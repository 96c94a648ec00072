"""Peers that answer what a test says, and a clock that moves when a plan sleeps."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Mapping, Optional, TypeVar, Union

from fedmesh._plan import Answer, Ask, Peers, Plan, Sleep
from fedmesh._problems import PREFIX, Unreachable

T = TypeVar("T")
Reply = Union[Answer, Exception]


def reply(status: int = 200, value: Any = None, headers: Optional[Mapping[str, str]] = None) -> Answer:
    return Answer(status, dict(headers or {}), b"" if value is None else json.dumps(value).encode(), "")


def problem(kind: str, status: int, detail: str = "so it is", retry_after: int = 0, **more: Any) -> Answer:
    body = {"type": PREFIX + kind, "title": kind.replace("-", " ").capitalize(), "detail": detail, "status": status, **more}
    headers = {"content-type": "application/problem+json"}
    if retry_after:
        headers["retry-after"] = str(retry_after)
    return reply(status, body, headers)


class Fake:
    """Runs plans: script says what a peer answers."""

    def __init__(self, script: Callable[[Ask], Reply], urls: str = "abc") -> None:
        self.now = 0.0
        self.script = script
        self.asked: List[Ask] = []
        self.bodies: List[bytes] = []
        self.slept: List[float] = []
        self.peers = Peers([f"http://{u}" for u in urls], clock=lambda: self.now, rand=lambda: 1.0)

    def run(self, plan: Plan[T]) -> T:
        try:
            effect = next(plan)
            while True:
                if isinstance(effect, Sleep):
                    self.slept.append(effect.seconds)
                    self.now += effect.seconds
                    effect = plan.send(None)
                elif isinstance(effect, Ask):
                    try:
                        result = self.ask(effect)
                    except Exception as e:
                        effect = plan.throw(e)
                    else:
                        effect = plan.send(result)
                else:
                    effect = plan.send([self._try(a) for a in effect.asks])
        except StopIteration as done:
            value: T = done.value
            return value

    def _try(self, a: Ask) -> Reply:
        try:
            return self.ask(a)
        except Unreachable as e:
            return e

    def ask(self, a: Ask) -> Answer:
        self.asked.append(a)
        self.now += 0.001
        got = self.script(a)
        if isinstance(got, Exception):
            raise got
        got.peer = a.peer
        return got

    @property
    def tried(self) -> str:
        return "".join(a.peer[-1] for a in self.asked)


RECEIPT: Dict[str, Any] = {
    "session": "s",
    "combiner": "c",
    "id": "i",
    "digest": "d" * 64,
    "base": "b" * 64,
    "round": 0,
    "copies": ["a", "b"],
    "duplicate": False,
}
