"""A client of fedmesh: push partial aggregates to any peer, pull the global model from any.

    mesh = fedmesh.Mesh(["10.0.0.1:8080", "10.0.0.2:8080"], combiner="c1")
    session = mesh.session("mnist")
    model = session.pull()
    receipt = session.push(train(model.arrays), weight=640, base=model)

AsyncMesh is the same for asyncio. All that is raised on purpose is a FedmeshError.
"""

from ._arrays import BFloat16
from ._async import AsyncMesh, AsyncSession
from ._problems import (
    BadFile,
    BaseGone,
    Conflict,
    DigestMismatch,
    FedmeshError,
    Forbidden,
    Gone,
    InvalidArgument,
    InvalidRequest,
    InvalidValue,
    ModelGone,
    NotFound,
    NothingNewer,
    Problem,
    SessionClosed,
    SessionConflict,
    StorageFull,
    TimedOut,
    TooLarge,
    Unauthorized,
    Unavailable,
    UnknownBase,
    UnknownModel,
    UnknownRound,
    UnknownSession,
    Unreachable,
    UnreadableModel,
    UnsupportedArray,
    UpdateConflict,
    WrongLayout,
)
from ._progress import Bar
from ._safetensors import load, save
from ._sync import Mesh, Session
from ._types import Model, Peer, Receipt, Round, SessionInfo, Status, Update

__all__ = [
    "AsyncMesh",
    "AsyncSession",
    "BFloat16",
    "BadFile",
    "Bar",
    "BaseGone",
    "Conflict",
    "DigestMismatch",
    "FedmeshError",
    "Forbidden",
    "Gone",
    "InvalidArgument",
    "InvalidRequest",
    "InvalidValue",
    "Mesh",
    "Model",
    "ModelGone",
    "NotFound",
    "NothingNewer",
    "Peer",
    "Problem",
    "Receipt",
    "Round",
    "Session",
    "SessionClosed",
    "SessionConflict",
    "SessionInfo",
    "Status",
    "StorageFull",
    "TimedOut",
    "TooLarge",
    "Unauthorized",
    "Unavailable",
    "UnknownBase",
    "UnknownModel",
    "UnknownRound",
    "UnknownSession",
    "Unreachable",
    "UnreadableModel",
    "UnsupportedArray",
    "Update",
    "UpdateConflict",
    "WrongLayout",
    "load",
    "save",
]
