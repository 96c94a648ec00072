"""Loads what the Go tests wrote in a directory with the real numpy and safetensors.

For each X.safetensors and X.npz there X.json tells the expected tensors: name -> [dtype, shape, hex of the
little-endian bytes]. Both must hold them, and be byte for byte what the real libraries write.
"""

import io
import json
import pathlib
import sys

import ml_dtypes
import numpy as np
import safetensors
from safetensors.numpy import save

NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}


def dtype(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "BF16" else NUMPY[name])


def main(folder):
    count = 0
    for manifest in sorted(pathlib.Path(folder).glob("*.json")):
        want = json.loads(manifest.read_text())
        arrays = {}
        for name, (dt, shape, data) in want.items():
            arrays[name] = np.frombuffer(bytes.fromhex(data), dtype(dt)).reshape(shape)

        raw = manifest.with_suffix(".safetensors").read_bytes()
        got = dict(safetensors.deserialize(raw))
        assert got.keys() == want.keys(), (manifest, got.keys())
        for name, (dt, shape, data) in want.items():
            t = got[name]
            assert (t["dtype"], t["shape"], bytes(t["data"]).hex()) == (dt, shape, data), (manifest, name, t)
        assert save(arrays) == raw, f"{manifest}: not the bytes that safetensors writes"

        path = manifest.with_suffix(".npz")
        with np.load(path, allow_pickle=False) as z:
            order = z.files
            assert set(order) == set(want), (manifest, order)
            for name in order:
                a = z[name]
                if want[name][0] == "BF16":
                    assert a.dtype == np.dtype("V2"), (manifest, name, a.dtype)
                    a = a.view(ml_dtypes.bfloat16)
                assert a.dtype == arrays[name].dtype and a.shape == arrays[name].shape, (manifest, name, a)
                assert a.tobytes() == arrays[name].tobytes(), (manifest, name, a)
        b = io.BytesIO()
        np.savez(b, **{name: arrays[name] for name in order})
        assert b.getvalue() == path.read_bytes(), f"{manifest}: not the bytes that numpy.savez writes"
        count += 1
    print(f"loaded {count} models")


main(sys.argv[1])
