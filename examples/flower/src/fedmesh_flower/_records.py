"""Between Flower's records and the mesh's arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import fedmesh
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord
from numpy.typing import NDArray

from ._advice import MeshRefused

Arrays = dict[str, NDArray[Any]]

_METRIC = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


def arrays_of(record: ArrayRecord) -> Arrays:
    return {name: array.numpy() for name, array in record.items()}


def record_of(model: Mapping[str, NDArray[Any]], order: Iterable[str]) -> ArrayRecord:
    """A model as Flower has it, its arrays in the order of the app's own."""
    return ArrayRecord({name: Array(np.asarray(model[name])) for name in order})


def check(own: Mapping[str, NDArray[Any]], model: Mapping[str, NDArray[Any]]) -> None:
    """Refuse arrays that are not the session's, telling the first difference."""
    for name in sorted(set(own) | set(model)):
        if name not in model:
            raise MeshRefused(f"the session's model has no array {name!r}, the app's has: name another session for another model")
        if name not in own:
            raise MeshRefused(f"the app's model has no array {name!r}, the session's has: name another session for another model")
        if own[name].shape != model[name].shape:
            raise MeshRefused(
                f"the array {name!r} is {own[name].shape} in the app's model and {model[name].shape} in the session's: "
                "name another session for another model"
            )


def fitted(own: Arrays, model: Mapping[str, NDArray[Any]]) -> Arrays:
    """Arrays with the session's dtypes: Flower's mean of integers is float64, and some strategies make float64 of all."""
    check(own, model)
    out: Arrays = {}
    for name, array in own.items():
        want = model[name].dtype
        if array.dtype != want and array.dtype.kind == "f" and want.kind in "iu":
            array = np.rint(array)
        out[name] = array if array.dtype == want else array.astype(want)
    return out


def moved(model: Mapping[str, NDArray[Any]], start: Arrays, end: Arrays) -> Arrays:
    """A model after the step from start to end, with the model's dtypes."""
    return fitted({name: np.asarray(array + (end[name] - start[name].astype(np.float64))) for name, array in model.items()}, model)


def weight_of(replies: Iterable[Message], key: str) -> int:
    """How many examples the replies without errors have together."""
    total = 0.0
    for reply in replies:
        if reply.has_error():
            continue
        for metrics in reply.content.metric_records.values():
            value = metrics.get(key, 0)
            if isinstance(value, list) or not value >= 0 or value != math.floor(value):
                raise MeshRefused(f"a node's {key!r} is {value!r}: the mesh weighs by whole numbers, so let the nodes report those of their examples")
            total += value
    return int(total)


def told(metrics: MetricRecord | None) -> dict[str, float]:
    """Those metrics that the mesh can average: finite numbers under plain names."""
    out: dict[str, float] = {}
    for name, value in (metrics or {}).items():
        if not isinstance(value, list) and math.isfinite(value) and _METRIC.fullmatch(name):
            out[name] = float(value)
    return out


def with_mesh(metrics: MetricRecord | None, counted: fedmesh.Round) -> MetricRecord:
    """The federation's own metrics and, under mesh-, those of all."""
    out = MetricRecord(dict(metrics or {}))
    out["mesh-round"] = counted.round
    out["mesh-combiners"] = counted.combiners
    out["mesh-examples"] = counted.weight
    for name, value in sorted((counted.metrics or {}).items()):
        out[f"mesh-{name}"] = float(value)
    return out
