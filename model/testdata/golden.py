"""Writes the golden files beside it with the real numpy and safetensors.

    python3 -m venv /tmp/golden && /tmp/golden/bin/pip install -r requirements.txt
    /tmp/golden/bin/python golden.py

X.safetensors, X.npz (numpy.savez), X.deflated.npz (numpy.savez_compressed) and X.streamed.npz (savez
to a stream that cannot seek) hold the same arrays, those in X.npz in the order of X.safetensors.
Of the others each stands alone.
"""

import io
import json
import pathlib
import zipfile

import ml_dtypes
import numpy as np
from safetensors.numpy import save

HERE = pathlib.Path(__file__).parent
DTYPES = [
    "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32",
    "uint64", "int64", "float16", "bfloat16", "float32", "float64",
]


def dtype(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def values(shape, dt, start=0):
    n = int(np.prod(shape, dtype=np.int64))
    x = np.arange(start, start + n)
    if dt == np.bool_:
        return (x % 3 == 0).reshape(shape)
    if dt.kind in "fV":
        x = x * 0.375 - 1.5
    return x.astype(dt).reshape(shape)


def dtypes():
    out = {}
    for i, name in enumerate(DTYPES):
        dt = dtype(name)
        # "z" and "a" so that neither the names' nor the declared order is the dtypes' order.
        out[f"z{len(DTYPES) - i:02d}.{name}"] = values((2, 3), dt, i)
        out[f"a{i:02d}.{name}"] = values((5,), dt, i)
    return out


def shapes():
    f4 = np.dtype("f4")
    return {
        "scalar": values((), f4, 7),
        "none": values((0,), f4),
        "none3": values((2, 0, 3), np.dtype("f8")),
        "one": values((1,), f4),
        "deep": values((1, 2, 1, 3, 1, 2), f4),
        "empty byte": values((0, 4), np.dtype("u1")),
    }


def padding():
    """npy headers of every length around a multiple of 64, to which they are padded."""
    return {f"{k:02d}": np.zeros((0,) + (1,) * 8 + (10**k,), "f4") for k in range(10, 18)}


def many():
    kinds = ["float32", "float32", "float16", "int64"]
    return {str(i): values((i % 4 + 1, 3), dtype(kinds[i % 4]), i) for i in range(40)}


def unicode():
    names = ["é", "zß", "😀", "日本/語", "a\u2028b", 'quo"te', "<&>", "~", "B", "b", "\ud7ff", "\uffff", "a/b.c", "..c"]
    return {n: values((2,), np.dtype("f4"), i) for i, n in enumerate(names)}


class Unseekable(io.RawIOBase):
    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, b):
        self.data += bytes(b)
        return len(b)


def npz(arrays, f=np.savez):
    b = io.BytesIO()
    f(b, **arrays)
    return b.getvalue()


def canonical(data, arrays):
    """The arrays in the order in which safetensors wrote them."""
    n = int.from_bytes(data[:8], "little")
    return {name: arrays[name] for name in json.loads(data[8 : 8 + n])}


def write(name, data):
    (HERE / name).write_bytes(data)


def main():
    for make in (dtypes, shapes, padding, many, unicode):
        name, arrays = make.__name__, make()
        st = save(arrays)
        write(f"{name}.safetensors", st)
        write(f"{name}.npz", npz(canonical(st, arrays)))
        write(f"{name}.deflated.npz", npz(arrays, np.savez_compressed))
        stream = Unseekable()
        np.savez(stream, **arrays)
        write(f"{name}.streamed.npz", stream.data)
        stream = Unseekable()
        np.savez_compressed(stream, **arrays)
        write(f"{name}.streamed.deflated.npz", stream.data)

    f4 = np.dtype("f4")
    a = values((2, 3), f4)
    write("metadata.safetensors", save({"a": a}, {"q\"": "é\n"}))
    write("metadata.plain.safetensors", save({"a": a}))
    write("bigendian.npz", npz({"a": a.astype(">f4"), "b": values((3,), np.dtype("i8")).astype(">i8"), "c": values((3,), np.dtype("f2")).astype(">f2")}))
    write("bigendian.safetensors", save({"a": a, "b": values((3,), np.dtype("i8")), "c": values((3,), np.dtype("f2"))}))
    write("fortran.npz", npz({"a": np.asfortranarray(a)}))
    write("object.npz", npz({"a": a, "bad": np.array([{"x": 1}, None], dtype=object)}))
    write("structured.npz", npz({"bad": np.zeros(2, dtype=[("x", "f4"), ("y", "i4")])}))
    write("complex.npz", npz({"bad": np.zeros(2, dtype="c8")}))
    write("text.npz", npz({"bad": np.array(["a", "bc"])}))
    write("longdouble.npz", npz({"bad": np.zeros(1, dtype=np.longdouble)}))
    write("names.npz", npz({"../evil": a}))
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        z.writestr(zipfile.ZipInfo("archive/data.pkl"), b"\x80\x02.")
    write("torch.npz", b.getvalue())


main()
