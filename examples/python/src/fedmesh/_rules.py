"""What every peer would refuse, found without asking one, and how values look on the wire."""

from __future__ import annotations

import json
import math
import re
from datetime import timedelta
from typing import Any, Dict, Mapping, Optional, Union

from ._problems import InvalidArgument

MAX_WEIGHT = 2**38 - 1
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DURATIONS = ("round_timeout", "settle_timeout", "lost_after")


def name(what: str, value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidArgument(f"the {what} name {value!r} must be 1 to 128 characters of A-Z a-z 0-9 . _ -, not starting with a dot")
    return value


def update_id(value: str) -> str:
    if not 1 <= len(value) <= 128 or any(not " " < c < "\x7f" or c in "/\\" for c in value):
        raise InvalidArgument(f"the id {value!r} must be 1 to 128 printable ASCII characters without slashes, backslashes and spaces")
    return value


def digest(what: str, value: str) -> str:
    if not _DIGEST.fullmatch(value):
        raise InvalidArgument(f"the {what} {value!r} is not a digest of 64 hex digits")
    return value


def weight(value: Any) -> str:
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError):
        whole = -1
    if isinstance(value, (bool, str)) or whole != value or not 1 <= whole <= MAX_WEIGHT:
        raise InvalidArgument(f"the weight is {value!r}; it must be a whole number from 1 to 2^38-1 = {MAX_WEIGHT}")
    return str(whole)


def metrics(values: Optional[Mapping[str, float]]) -> Dict[str, str]:
    out = {}
    for key, value in sorted((values or {}).items()):
        number = float(value)
        if not math.isfinite(number):
            raise InvalidArgument(f"the metric {key!r} is {number}, not a finite number")
        out["metric." + name("metric", key)] = repr(number)
    return out


def duration(value: Union[str, float, timedelta]) -> str:
    """Text as the peers read it, "1m30s"; numbers are seconds."""
    if isinstance(value, str):
        return value
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not 0 <= seconds < 1e9:
        raise InvalidArgument(f"a duration of {value!r} is not a number of seconds")
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def config(values: Optional[Mapping[str, Any]]) -> bytes:
    out: Dict[str, Any] = dict(values or {})
    for key in _DURATIONS:
        if key in out:
            out[key] = duration(out[key])
    if "params" in out:
        out["params"] = {k: v if isinstance(v, str) else json.dumps(v) for k, v in dict(out["params"]).items()}
    try:
        return json.dumps(out, allow_nan=False).encode()
    except (TypeError, ValueError) as e:
        raise InvalidArgument(f"the config cannot be told in JSON: {e}") from e


def timeout(value: Optional[float]) -> float:
    if value is None:
        return math.inf
    if not value > 0:
        raise InvalidArgument(f"a timeout of {value!r} is not a number of seconds above 0; None waits for ever")
    return float(value)
