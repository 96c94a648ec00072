"""What peers tell, as Python has it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Dict, Iterator, List, Mapping, Optional, Type, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._problems import Unreachable
from ._safetensors import Array, parse

T = TypeVar("T")


def read(cls: Type[T], obj: Any) -> T:
    """A dataclass of a JSON object. Members that it does not know are left out: a newer peer may tell more."""
    if not isinstance(obj, dict):
        raise Unreachable(f"a peer answered without the JSON object of {cls.__name__}: not a fedmesh peer?")
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    try:
        return cls(**{k: v for k, v in obj.items() if k in known})
    except TypeError as e:
        raise Unreachable(f"a peer's answer is no {cls.__name__}: {e}") from e


def read_list(cls: Type[T], obj: Any, member: str) -> List[T]:
    items = obj.get(member) if isinstance(obj, dict) else None
    if not isinstance(items, list):
        raise Unreachable(f"a peer answered without {member!r}: not a fedmesh peer?")
    return [read(cls, item) for item in items]


@dataclass(frozen=True)
class Receipt:
    """The answer to a push: who holds the update now."""

    session: str
    combiner: str
    id: str
    digest: str  # of the update in canonical form
    base: str  # digest of the model it was trained from
    round: int  # the round that made the base
    copies: List[str]  # names of the peers that hold it durably
    duplicate: bool
    request: str = ""  # id that the push has in the peers' logs
    sent: int = 0  # bytes that were given to connections; more than the update has when some had to be sent again


@dataclass(frozen=True)
class SessionInfo:
    """What a peer knows of a session."""

    name: str
    key: str
    config: Dict[str, Any]
    seed: str
    state: str  # open, closing or closed
    round: int  # the open round; after the end, the last one
    model: str  # digest of the current model
    model_round: int  # the round that made it; 0 is the seed
    members: List[str]
    divergent: int
    clash: List[str] = field(default_factory=list)
    privacy: Optional[Dict[str, Any]] = None


@dataclass(frozen=True)
class Update:
    """One update of a round."""

    combiner: str
    id: str
    digest: str
    weight: int
    base: str
    base_round: int
    copies: List[str]


@dataclass(frozen=True)
class Round:
    """One round as the answering peer derives it."""

    round: int
    state: str  # open, sealed, settled or final
    model: str  # digest; empty while there is none
    inputs: str
    updates: List[Update]
    weight: int
    metrics: Dict[str, float]
    computed: Dict[str, str]
    waiting_for: List[str]
    lost: List[Dict[str, str]]
    combiners: int
    compacted: bool = False
    sealed: List[str] = field(default_factory=list)
    took: List[str] = field(default_factory=list)
    versions: int = 0
    divergent: bool = False
    opened: Optional[str] = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "updates", [u if isinstance(u, Update) else read(Update, u) for u in self.updates or []])


@dataclass(frozen=True)
class Peer:
    """One peer as another sees it."""

    name: str
    log: str
    state: str  # alive, suspect, dead, left, forgetting or forgotten
    api: str
    vector_lag: int
    rounds: Dict[str, Any]  # session name to [round, digest]
    held: int = 0
    held_bytes: int = 0
    waiting_for: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Status:
    """The mesh as the answering peer sees it."""

    self: str
    mesh: str
    peers: List[Peer]
    agreed: bool
    disk: int

    def __post_init__(status) -> None:  # noqa: N805 - a field is named self, as in the peers' answer
        object.__setattr__(status, "peers", [p if isinstance(p, Peer) else read(Peer, p) for p in status.peers or []])


class Model(Mapping[str, NDArray[Any]]):
    """A model that was pulled: a mapping of names to numpy arrays that share one buffer, or one mapped file.

    Tensors of bfloat16 are given as float32, a copy; exact has them as they are.
    """

    def __init__(self, buffer: NDArray[np.uint8], digest: str, round: int, session: str, peer: str) -> None:
        self.exact, self.dtypes = parse(buffer)  # exact: Dict[str, Array]
        self.digest = digest
        self.round = round  # that made it; 0 is the seed
        self.session = session
        self.peer = peer  # URL of the one that delivered it, or its end

    def __getitem__(self, name: str) -> NDArray[Any]:
        return np.asarray(self.exact[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.exact)

    def __len__(self) -> int:
        return len(self.exact)

    def __repr__(self) -> str:
        return f"<fedmesh.Model {self.digest[:8]} of round {self.round}, {len(self)} tensors>"

    @property
    def arrays(self) -> Dict[str, NDArray[Any]]:
        return {name: self[name] for name in self}

    def torch(self) -> Dict[str, Any]:
        """A state_dict of tensors of PyTorch, bfloat16 as such; they share the model's memory."""
        import torch

        def one(a: Array) -> Any:
            if isinstance(a, np.ndarray):
                return torch.from_numpy(a)
            return torch.from_numpy(np.asarray(a.bits).view(np.int16)).view(torch.bfloat16)

        return {name: one(a) for name, a in self.exact.items()}
