"""Model files: the canonical safetensors form, written in pieces and read without a copy.

The canonical form is that of the reference implementation: tensors by dtype, descending, then by name; no metadata; the header padded with
spaces so that the data begins at a multiple of 8. It gives every model exactly one file, and the file's BLAKE3 is the model's digest.
"""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Dict, Iterator, List, Mapping, Tuple, Union

import numpy as np
from numpy.typing import NDArray

from ._arrays import NUMPY, PIECE, RANK, BFloat16, Tensor, check_name, tensors
from ._problems import BadFile, FedmeshError, InvalidArgument

MAX_HEADER = 16 << 20
MAX_TENSORS = 1 << 16

PathLike = Union[str, "os.PathLike[str]"]
Array = Union[NDArray[Any], BFloat16]


class Body:
    """Bytes to send, which may be read again from any offset."""

    size: int
    blocking = False  # whether reading them may wait for a disk

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        raise NotImplementedError


class TensorBody(Body):
    """A model's canonical file, made as it is read."""

    def __init__(self, ts: List[Tensor]) -> None:
        if len(ts) > MAX_TENSORS:
            raise InvalidArgument(f"{len(ts)} tensors; a model has at most {MAX_TENSORS}")
        ts = sorted(ts, key=lambda t: (-RANK[t.dtype], t.name.encode()))
        self._parts: List[Union[bytes, Tensor]] = [_header(ts), *ts]
        self.size = sum(_size(p) for p in self._parts)

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        for part in self._parts:
            n = _size(part)
            if start >= n:
                start -= n
                continue
            if isinstance(part, bytes):
                yield part[start:]
            else:
                yield from part.pieces(start)
            start = 0


class FileBody(Body):
    """A file, which may be larger than the memory."""

    blocking = True

    def __init__(self, path: PathLike) -> None:
        self.path = os.fspath(path)
        self.size = os.stat(self.path).st_size

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        with open(self.path, "rb") as f:
            if os.fstat(f.fileno()).st_size != self.size:
                raise BadFile(f"{self.path} has changed its size while it was pushed")
            f.seek(start)
            left = self.size - start
            while left > 0:
                piece = f.read(min(PIECE, left))
                if not piece:
                    raise BadFile(f"{self.path} has become shorter while it was pushed")
                left -= len(piece)
                yield piece


class Wrapped(Body):
    """A body between a head and a tail."""

    def __init__(self, head: bytes, body: Body, tail: bytes) -> None:
        self._head, self._body, self._tail = head, body, tail
        self.blocking = body.blocking
        self.size = len(head) + body.size + len(tail)

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        if start:
            raise ValueError("a form is sent from its start")
        yield self._head
        yield from self._body.pieces()
        yield self._tail


def body_of(model: Any, like: Union[Mapping[str, str], None] = None) -> Body:
    """What push and open are given: arrays by name, or a file's path."""
    if isinstance(model, (str, os.PathLike)):
        return FileBody(model)
    return TensorBody(tensors(model, like))


def _size(part: Union[bytes, Tensor]) -> int:
    return len(part) if isinstance(part, bytes) else part.size


def _header(ts: List[Tensor]) -> bytes:
    at = 0
    entries: Dict[str, Any] = {}
    for t in ts:
        entries[t.name] = {"dtype": t.dtype, "shape": list(t.shape), "data_offsets": [at, at + t.size]}
        at += t.size
    text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise InvalidArgument(f"the header has {len(text)} bytes; a model has at most {MAX_HEADER}")
    return len(text).to_bytes(8, "little") + text


def parse(buffer: NDArray[np.uint8]) -> Tuple[Dict[str, Array], Dict[str, str]]:
    """The arrays in a file, which share its memory, and their dtypes."""
    entries, begin = _entries(buffer)
    arrays: Dict[str, Array] = {}
    dtypes: Dict[str, str] = {}
    spans = []
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        dtype, shape, low, high = _entry(name, entry)
        if begin + high > len(buffer):
            raise BadFile(f"tensor {name!r} reaches beyond the file's {len(buffer)} bytes")
        spans.append((low, high))
        data = buffer[begin + low : begin + high]
        if (buffer.ctypes.data + begin + low) % NUMPY[dtype].itemsize:  # of another writer than ours
            data = data.copy()
        array = data.view(NUMPY[dtype]).reshape(shape)
        arrays[name] = BFloat16(array) if dtype == "BF16" else array
        dtypes[name] = dtype
    at = 0
    for low, high in sorted(spans):
        if low != at:
            raise BadFile(f"the tensors leave a hole, or overlap, at byte {at} of the data")
        at = high
    if begin + at != len(buffer):
        raise BadFile(f"{len(buffer) - begin - at} bytes follow the last tensor")
    return arrays, dtypes


def _entries(buffer: NDArray[np.uint8]) -> Tuple[Dict[str, Any], int]:
    if len(buffer) < 8:
        raise BadFile(f"{len(buffer)} bytes are no safetensors file")
    n = int.from_bytes(buffer[:8].tobytes(), "little")
    if n > MAX_HEADER or n > len(buffer) - 8:
        raise BadFile(f"a header of {n} bytes: no safetensors file, or a part of one")
    try:
        entries = json.loads(buffer[8 : 8 + n].tobytes().decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as e:
        if isinstance(e, FedmeshError):
            raise
        raise BadFile(f"the header is no JSON: {e}") from e
    if not isinstance(entries, dict):
        raise BadFile("the header is no JSON object")
    return entries, 8 + n


def _once(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise BadFile("the header has a name twice")
    return out


def _entry(name: str, entry: Any) -> Tuple[str, Tuple[int, ...], int, int]:
    check = "the header's entry of tensor %r is wrong: %s"
    try:
        check_name(name)
    except InvalidArgument as e:
        raise BadFile(str(e)) from None
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise BadFile(check % (name, "it must have dtype, shape and data_offsets, and nothing else"))
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in RANK:
        raise BadFile(check % (name, f"dtype {dtype!r} is not one of {', '.join(RANK)}"))
    for numbers in (shape, offsets):
        if not isinstance(numbers, list) or len(numbers) > 32 or not all(type(x) is int and 0 <= x < 1 << 60 for x in numbers):
            raise BadFile(check % (name, "shape and data_offsets are lists of whole numbers"))
    count = 1
    for d in shape:
        count *= d
    if len(offsets) != 2 or offsets[1] - offsets[0] != count * NUMPY[dtype].itemsize:
        raise BadFile(check % (name, "data_offsets do not fit dtype and shape"))
    return dtype, tuple(shape), offsets[0], offsets[1]


def open_file(path: PathLike) -> NDArray[np.uint8]:
    """A file mapped into memory. Arrays in it may be written to, which does not change the file."""
    if os.stat(path).st_size == 0:
        raise BadFile(f"{os.fspath(path)} is empty")
    return np.asarray(np.memmap(path, dtype=np.uint8, mode="c"))


def load(path: PathLike) -> Dict[str, Array]:
    """The arrays of a safetensors file, mapped and not read."""
    return parse(open_file(path))[0]


def save(path: PathLike, arrays: Mapping[str, Any]) -> None:
    """Write arrays, or a state_dict, as the canonical safetensors file. An existing file is replaced once the new one is whole."""
    body = TensorBody(tensors(arrays))
    folder, base = os.path.split(os.path.abspath(os.fspath(path)))
    fd, part = tempfile.mkstemp(prefix=base + ".", suffix=".part", dir=folder)
    try:
        with os.fdopen(fd, "wb") as f:
            for piece in body.pieces():
                f.write(piece)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise
