"""Arrays of numpy, PyTorch and others as the tensors of a model: a name, a dtype, a shape and little-endian bytes in C order."""

from __future__ import annotations

import sys
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._problems import InvalidArgument, UnsupportedArray

PIECE = 256 << 10  # bytes that are copied at a time

# The dtypes in the order of the reference implementation, which sorts tensors by it, descending.
DTYPES = ("BOOL", "U8", "I8", "I16", "U16", "F16", "BF16", "I32", "U32", "F32", "F64", "I64", "U64")
RANK = {name: i for i, name in enumerate(DTYPES)}
NUMPY: Dict[str, np.dtype[Any]] = {
    name: np.dtype(code)
    for name, code in {
        "BOOL": "?",
        "U8": "u1",
        "I8": "i1",
        "I16": "<i2",
        "U16": "<u2",
        "F16": "<f2",
        "BF16": "<u2",  # the bits
        "I32": "<i4",
        "U32": "<u4",
        "F32": "<f4",
        "F64": "<f8",
        "I64": "<i8",
        "U64": "<u8",
    }.items()
}
_OF_KIND = {(d.kind, d.itemsize): name for name, d in NUMPY.items() if name != "BF16"}


class BFloat16:
    """An array of bfloat16, which numpy does not have: its bits. np.asarray(x) is float32."""

    def __init__(self, bits: NDArray[np.uint16]) -> None:
        if bits.dtype != np.uint16:
            raise UnsupportedArray(f"the bits of bfloat16 are uint16, not {bits.dtype}; use BFloat16.of for values")
        self.bits = bits

    @classmethod
    def of(cls, values: ArrayLike) -> BFloat16:
        """The nearest bfloat16 of each value, ties to even. The way is over float32."""
        wide = np.array(values, dtype=np.float32, order="C")
        bits = wide.reshape(-1).view(np.uint32)
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        rounded = np.where(np.isnan(wide.reshape(-1)), (bits >> np.uint32(16)) | np.uint32(0x40), rounded)
        return cls(rounded.astype(np.uint16).reshape(wide.shape))

    @property
    def shape(self) -> Tuple[int, ...]:
        return tuple(self.bits.shape)

    def float32(self) -> NDArray[np.float32]:
        """All values; none is rounded."""
        wide = np.ascontiguousarray(self.bits).reshape(-1).astype(np.uint32) << np.uint32(16)
        return wide.view(np.float32).reshape(self.bits.shape)

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("bfloat16 cannot become an array without a copy")
        return self.float32() if dtype is None else self.float32().astype(dtype)

    def __repr__(self) -> str:
        return f"BFloat16({self.float32()!r})"


class Tensor(NamedTuple):
    """One tensor of a model."""

    name: str
    dtype: str  # one of DTYPES
    array: NDArray[Any]  # of NUMPY[dtype] in whatever byte order and strides

    @property
    def shape(self) -> Tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def size(self) -> int:
        return int(self.array.size) * NUMPY[self.dtype].itemsize

    def pieces(self, start: int = 0) -> Iterator[bytes]:
        """The bytes from start on. No more than a piece is copied, whatever the strides and the byte order."""
        item = NUMPY[self.dtype].itemsize
        step = PIECE // item
        first, cut = divmod(start, item)
        plain = self.array.flags.c_contiguous and self.array.dtype == NUMPY[self.dtype]
        flat: Any = self.array.reshape(-1) if plain else self.array.flat
        for at in range(first, int(self.array.size), step):
            piece = np.ascontiguousarray(flat[at : at + step], dtype=NUMPY[self.dtype]).tobytes()
            yield piece[cut:] if cut else piece
            cut = 0


def tensors(arrays: Mapping[str, Any], like: Optional[Mapping[str, str]] = None) -> List[Tensor]:
    """The tensors of a state_dict or of arrays by name. Where like says BF16, float32 becomes that."""
    if not isinstance(arrays, Mapping):
        raise UnsupportedArray(f"a model is a mapping of names to arrays, or the path of a file, not {_kind(arrays)}")
    out = []
    for name, value in arrays.items():
        check_name(name)
        t = _tensor(name, value)
        if like is not None and like.get(name) == "BF16" and t.dtype == "F32":
            t = Tensor(name, "BF16", BFloat16.of(t.array).bits)
        out.append(t)
    return out


def _tensor(name: str, value: Any) -> Tensor:
    if isinstance(value, BFloat16):
        return Tensor(name, "BF16", value.bits)
    if hasattr(value, "detach") and hasattr(value, "cpu") and hasattr(value, "dtype"):
        return _torch(name, value)
    if not isinstance(value, (np.ndarray, np.generic)):
        if isinstance(value, (bool, int, float, list, tuple)):
            raise UnsupportedArray(f"{name!r} is {_kind(value)}, of no certain dtype: make it a numpy array, as np.float32(…)")
        if not hasattr(value, "__array__"):
            raise UnsupportedArray(f"{name!r} is {_kind(value)}, not an array")
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if isinstance(array, np.ma.MaskedArray):
        raise UnsupportedArray(f"{name!r} is a masked array, and models have no masks: fill it first")
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":  # of ml_dtypes, as JAX has it
        return Tensor(name, "BF16", array.view(np.uint16))
    dtype = _OF_KIND.get((array.dtype.kind, array.dtype.itemsize))
    if dtype is None:
        raise UnsupportedArray(
            f"{name!r} is of dtype {array.dtype}, which models do not have; "
            "they have bool, integers of 8 to 64 bits, float16, bfloat16, float32 and float64"
        )
    return Tensor(name, dtype, array)


def _torch(name: str, value: Any) -> Tensor:
    """A tensor of PyTorch, which is not imported here: whoever has one has it already."""
    try:
        value = value.detach().cpu()
        if str(value.dtype) == "torch.bfloat16":
            bits = value.contiguous().view(sys.modules["torch"].int16).numpy()
            return Tensor(name, "BF16", bits.view(np.uint16))
        array = value.numpy()
    except (TypeError, RuntimeError) as e:  # sparse, quantized, on the meta device, float8
        raise UnsupportedArray(f"{name!r} is a tensor that numpy cannot hold: {e}") from e
    if not isinstance(array, np.ndarray):
        raise UnsupportedArray(f"{name!r} is {_kind(value)}, whose numpy() is {_kind(array)}")
    return _tensor(name, array)


def check_name(name: object) -> None:
    """The peers' rule for the names of tensors."""
    if not isinstance(name, str):
        raise UnsupportedArray(f"the tensor name {name!r} is {_kind(name)}, not text")
    try:
        length = len(name.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(f"the tensor name {name!r} is no valid Unicode") from None
    why = ""
    if not name:
        why = "is empty"
    elif length > 512:
        why = f"is {length} bytes long, at most 512 are allowed"
    elif name == "__metadata__":
        why = "is reserved"
    elif name.startswith("/"):
        why = "is an absolute path"
    elif any(c < " " or c in "\x7f\\" for c in name):
        why = "contains a control character or a backslash"
    elif ".." in name.split("/"):
        why = 'contains ".."'
    if why:
        raise InvalidArgument(f"the tensor name {name[:80]!r} {why}")


def _kind(value: object) -> str:
    return f"a {type(value).__module__}.{type(value).__qualname__}".replace("builtins.", "")
