"""AsyncMesh and AsyncSession: Mesh and Session for asyncio."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, AsyncIterator, List, Mapping, Optional, Sequence, Type, TypeVar, Union

import httpx

from . import _rules, _wire
from ._calls import DEFAULT, RESUME_FROM, Base, Calls, Timeout
from ._plan import Answer, Ask, Effect, Peers, Plan, Progress, Sleep, urls_of
from ._problems import Unreachable
from ._safetensors import PathLike
from ._types import Model, Receipt, Round, SessionInfo, Status

T = TypeVar("T")


class AsyncMesh:
    """A mesh, reached through any of its peers. Belongs to one event loop of asyncio.

    peers are host:port or URLs, in a list or with commas. timeout bounds every call in seconds, all retries included; None is for ever.
    With ca (a file of authorities) or cert (a file, or two with the key) peers without a scheme are https. combiner is who pushes.
    """

    def __init__(
        self,
        peers: Union[str, Sequence[str]],
        token: Optional[str] = None,
        ca: Optional[PathLike] = None,
        cert: _wire.Cert = None,
        timeout: Optional[float] = 600.0,
        *,
        combiner: Optional[str] = None,
        resume_from: int = RESUME_FROM,
    ) -> None:
        _rules.timeout(timeout)
        urls = urls_of(peers, ca is not None or cert is not None)
        self._calls = Calls(Peers(urls), resume_from, timeout)
        self._combiner = combiner
        transport = httpx.AsyncHTTPTransport(verify=_wire.context(ca, cert), limits=_wire.LIMITS, socket_options=_wire.SOCKET)
        self._client = httpx.AsyncClient(transport=transport, headers=_wire.headers_of(token))

    async def __aenter__(self) -> AsyncMesh:
        return self

    async def __aexit__(self, kind: Optional[Type[BaseException]], e: Optional[BaseException], tb: Optional[TracebackType]) -> None:
        await self.close()

    async def close(self) -> None:
        """Drop the connections."""
        await self._client.aclose()

    def session(self, name: str) -> AsyncSession:
        """A session by name or key. Nothing is asked yet."""
        return AsyncSession(self, _rules.name("session", name))

    async def open(
        self, name: str, seed: Union[Mapping[str, Any], PathLike], config: Optional[Mapping[str, Any]] = None, *, timeout: Timeout = DEFAULT
    ) -> AsyncSession:
        """Open a session with its first model, or find the same one open. Durations in config are seconds, or text as "1m30s"."""
        await self._run(self._calls.open(name, seed, config, timeout))
        return AsyncSession(self, name)

    async def sessions(self, *, timeout: Timeout = DEFAULT) -> List[SessionInfo]:
        """All sessions, by name."""
        return await self._run(self._calls.sessions(timeout))

    async def status(self, *, timeout: Timeout = DEFAULT) -> Status:
        """The mesh as the peer that answers sees it."""
        return await self._run(self._calls.status(timeout))

    async def _run(self, plan: Plan[T]) -> T:
        try:
            effect = next(plan)
            while True:
                try:
                    result = await self._do(effect)
                except BaseException as e:
                    effect = plan.throw(e)
                else:
                    effect = plan.send(result)
        except StopIteration as done:
            value: T = done.value
            return value

    async def _do(self, effect: Effect) -> Any:
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Ask):
            return await self._ask(effect)
        return await asyncio.gather(*map(self._try, effect.asks))

    async def _try(self, a: Ask) -> Union[Answer, Unreachable]:
        try:
            return await self._ask(a)
        except Unreachable as e:
            return e

    async def _ask(self, a: Ask) -> Answer:
        try:
            request = self._client.build_request(**_wire.arguments(a), content=_feed(a) if a.body is not None else None)
            response = await self._client.send(request, stream=True)
            try:
                body = bytearray()
                if _wire.wanted(a, response) and a.sink is not None:
                    a.sink.begin(response.status_code, _wire.lowered(response))
                    async for piece in response.aiter_raw():
                        _wire.left(a)
                        a.sink.write(piece)
                else:
                    async for piece in response.aiter_raw():
                        _wire.grown(a, body, piece)
                return _wire.answer(a, response, bytes(body))
            finally:
                await response.aclose()
        except (httpx.TransportError, httpx.InvalidURL) as e:
            raise _wire.unreachable(a, e) from e


async def _feed(a: Ask) -> AsyncIterator[bytes]:
    if a.body is None:
        return
    pieces = iter(a.body.pieces(a.start))
    while True:
        piece = await asyncio.to_thread(next, pieces, b"") if a.body.blocking else next(pieces, b"")
        if not piece:
            return
        _wire.left(a)
        yield piece
        if a.handed is not None:
            a.handed(len(piece))


class AsyncSession:
    """One session of a mesh."""

    def __init__(self, mesh: AsyncMesh, name: str) -> None:
        self.name = name
        self._mesh = mesh

    def __repr__(self) -> str:
        return f"<fedmesh.AsyncSession {self.name}>"

    async def push(
        self,
        model: Union[Mapping[str, Any], PathLike],
        weight: int,
        base: Base = None,
        *,
        combiner: Optional[str] = None,
        id: Optional[str] = None,
        metrics: Optional[Mapping[str, float]] = None,
        progress: Optional[Progress] = None,
        timeout: Timeout = DEFAULT,
    ) -> Receipt:
        """As Session.push."""
        m = self._mesh
        who = combiner if combiner is not None else m._combiner
        return await m._run(m._calls.push(self.name, model, weight, base, who, id, metrics, progress, timeout))

    async def pull(
        self,
        after: Union[Model, str, int, None] = None,
        wait: float = 0.0,
        *,
        which: Union[str, int, None] = None,
        path: Optional[PathLike] = None,
        progress: Optional[Progress] = None,
        timeout: Timeout = DEFAULT,
    ) -> Model:
        """As Session.pull."""
        return await self._mesh._run(self._mesh._calls.pull(self.name, after, wait, which, path, progress, timeout))

    async def rounds(self, first: int = 0, limit: int = 0, *, timeout: Timeout = DEFAULT) -> List[Round]:
        """Up to limit rounds (at most 1000; 0: 100) from the first upwards; from 0, the last ones."""
        return await self._mesh._run(self._mesh._calls.rounds(self.name, first, limit, timeout))

    async def wait(self, round: Optional[int] = None, state: str = "settled", *, timeout: Timeout = DEFAULT) -> Round:
        """Wait until a round, by default the open one, has its model (settled), or until nothing can change it any more (final)."""
        return await self._mesh._run(self._mesh._calls.wait(self.name, round, state, timeout))

    async def info(self, *, timeout: Timeout = DEFAULT) -> SessionInfo:
        """What a peer knows of the session."""
        return await self._mesh._run(self._mesh._calls.describe(self.name, timeout))

    async def close(self, *, timeout: Timeout = DEFAULT) -> SessionInfo:
        """Close it for all: the last round is agreed, and no updates are accepted from then on."""
        return await self._mesh._run(self._mesh._calls.close(self.name, timeout))
