"""Arrays and files, without a network."""

from __future__ import annotations

import io
import json
import pathlib
from typing import Any, Dict, List

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import fedmesh
from fedmesh._arrays import NUMPY, PIECE
from fedmesh._safetensors import body_of, parse


def written(arrays: Any, start: int = 0) -> bytes:
    return b"".join(body_of(arrays).pieces(start))


def read(data: bytes) -> Dict[str, Any]:
    return parse(np.frombuffer(bytearray(data), np.uint8))[0]


ANY = hnp.arrays(
    st.sampled_from(["?", "u1", "i1", ">i2", "<u2", "<f2", ">f2", ">i4", "<u4", ">f4", "<f4", ">f8", "<i8", ">u8"]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)
NAMES = st.text(st.characters(codec="utf-8", exclude_characters='\\"', exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
NAME = NAMES.filter(lambda n: not n.startswith("/") and ".." not in n.split("/") and n != "__metadata__")


@settings(max_examples=60, deadline=None, database=None)
@given(st.dictionaries(NAME, ANY, max_size=5), st.integers(0, 400))
def test_any_arrays_come_back(arrays: Dict[str, Any], start: int) -> None:
    turned = {n: a.T if i % 2 else a[::-1] if a.ndim else a for i, (n, a) in enumerate(arrays.items())}
    data = written(turned)
    got = read(data)
    assert list(got) == sorted(got, key=lambda n: (-list(NUMPY).index(_dtype(got[n])), n.encode()))
    for n, a in turned.items():
        np.testing.assert_array_equal(got[n], a)
        assert got[n].shape == a.shape and got[n].dtype == a.dtype.newbyteorder("<")
    assert written(turned, min(start, len(data))) == data[min(start, len(data)) :]
    assert len(data) == body_of(turned).size and int.from_bytes(data[:8], "little") % 8 == 0


def _dtype(a: Any) -> str:
    return next(n for n, d in NUMPY.items() if d == a.dtype and n != "BF16")


def test_the_same_as_the_reference(tmp_path: pathlib.Path) -> None:
    reference = pytest.importorskip("safetensors.numpy", reason="NOT RUN: no safetensors package to compare with")
    arrays = {
        "z": np.arange(4, dtype=np.float32),
        "a": np.arange(6.0).reshape(2, 3),
        'q"ü': np.array([True]),
        "h": np.array(1.5, np.float16),
        "i": np.arange(3, dtype=np.uint16),
    }
    assert written(arrays) == reference.save(arrays)
    reference.save_file(arrays, tmp_path / "x", metadata={"format": "np"})
    assert fedmesh.load(tmp_path / "x").keys() == arrays.keys()


def test_large_arrays_of_any_order() -> None:
    n = 3 * PIECE // 4 + 1
    whole = np.arange(2 * n, dtype=np.float32)
    for a in (whole[::2], whole.reshape(2, n).T, whole.astype(">f4"), whole.reshape(2, n).T.astype(">f8")):
        plain = np.ascontiguousarray(a, dtype=a.dtype.newbyteorder("<")).tobytes()
        data = written({"w": a})
        assert data.endswith(plain)
        for start in (1, PIECE + 7, len(data) - 3):
            assert written({"w": a}, start) == data[start:]


ma: Any = np.ma  # not typed in older numpy
MASKED = ma.masked_array([1.0], [True])


@pytest.mark.parametrize(
    "value, says",
    [
        (np.zeros(2, np.complex64), "complex64"),
        (np.array(["a"]), "<U1"),
        (np.array([None]), "object"),
        (np.array(["2020-01-01"], "M8[D]"), "datetime64"),
        (np.zeros(2, [("x", "f4")]), "models do not have"),
        (MASKED, "masked"),
        (1.5, "np.float32"),
        ([1.0, 2.0], "np.float32"),
        (object(), "not an array"),
        (None, "not an array"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_models_do_not_have_is_refused(value: Any, says: str) -> None:
    with pytest.raises(fedmesh.UnsupportedArray, match=says) as e:
        written({"conv.weight": value})
    assert "conv.weight" in str(e.value)


@pytest.mark.parametrize("name", ["", "/a", "a/../b", "a\nb", "__metadata__", "x" * 513, "\ud800"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(fedmesh.InvalidArgument):
        written({name: np.zeros(1)})


def test_no_model_at_all() -> None:
    with pytest.raises(fedmesh.UnsupportedArray, match="mapping"):
        written([np.zeros(1)])


def entry(dtype: str = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> Dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def file(header: Any, data: bytes = b"\0" * 4) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


BAD = {
    "short": b"123",
    "beyond": (1 << 60).to_bytes(8, "little") + b"{}",
    "no JSON": file(b"{nonsense"),
    "deep": file(b"[" * 100_000),
    "no object": file([]),
    "twice": file(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'),
    "dtype": file({"a": entry("F8")}),
    "negative": file({"a": entry(shape=[-1], offsets=[0, -4])}),
    "text": file({"a": entry(shape="1")}),
    "misfit": file({"a": entry(offsets=[0, 8])}),
    "hole": file({"a": entry(offsets=[4, 8])}, b"\0" * 8),
    "overlap": file({"a": entry(), "b": entry()}),
    "tail": file({"a": entry()}, b"\0" * 5),
    "cut": file({"a": entry()}, b"\0" * 3),
    "name": file({"../a": entry()}),
    "more": file({"a": {**entry(), "x": 1}}),
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD.keys())
def test_bad_files(data: bytes, tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(fedmesh.BadFile):
        fedmesh.load(tmp_path / "x")


@settings(max_examples=100, deadline=None, database=None)
@given(st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject) -> None:
    good = bytearray(written({"a": np.arange(3, dtype=np.float32), "b": np.zeros((2, 2))}))
    for _ in range(data.draw(st.integers(1, 3))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(good))
    except fedmesh.BadFile:
        pass


@settings(deadline=None, database=None)
@given(hnp.arrays(np.uint16, hnp.array_shapes(min_dims=0, min_side=0)))
def test_bfloat16_comes_back(bits: Any) -> None:
    b = fedmesh.BFloat16(bits)
    wide = np.asarray(b)
    again = fedmesh.BFloat16.of(wide).bits
    nan = np.isnan(wide)
    np.testing.assert_array_equal(again[~nan], bits[~nan])
    assert np.isnan(fedmesh.BFloat16.of(wide).float32()[nan]).all() and wide.shape == b.shape == bits.shape


def test_bfloat16_rounds_to_even() -> None:
    ulp = 2.0**-7
    assert fedmesh.BFloat16.of([1 + ulp / 2, 1 + 1.5 * ulp, 1 + 0.51 * ulp, 3.4e38]).float32().tolist() == [1, 1 + 2 * ulp, 1 + ulp, np.inf]


@pytest.mark.parametrize("bits", [0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_bfloat16_keeps_nan(bits: int) -> None:
    assert np.isnan(fedmesh.BFloat16.of(np.array(bits, np.uint32).view(np.float32)).float32())


def test_bfloat16_of_ml_dtypes() -> None:
    ml = pytest.importorskip("ml_dtypes", reason="NOT RUN: no ml_dtypes")
    got = read(written({"w": np.array([[1.5, 2], [3, 4]], ml.bfloat16).T}))["w"]
    assert isinstance(got, fedmesh.BFloat16) and got.float32().tolist() == [[1.5, 3], [2, 4]]


def test_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="NOT RUN: no PyTorch; pip install torch to run this")
    from fedmesh._types import Model

    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    state = dict(net.state_dict())
    state["half"] = torch.ones(2, dtype=torch.float16)
    state["brain"] = torch.arange(6, dtype=torch.float32).reshape(2, 3).t().to(torch.bfloat16)
    state["scalar"] = torch.tensor(2.5, dtype=torch.bfloat16)
    state["grad"] = torch.zeros(2, requires_grad=True)
    m = Model(np.frombuffer(bytearray(written(state)), np.uint8), "d" * 64, 1, "s", "")
    back = m.torch()
    assert all(torch.equal(back[k], v.detach()) and back[k].dtype == v.dtype for k, v in state.items())
    net.load_state_dict({k: back[k] for k in net.state_dict()})
    with pytest.raises(fedmesh.UnsupportedArray, match="sparse"):
        written({"sparse": torch.eye(3).to_sparse()})


def test_files_are_replaced_when_whole(tmp_path: pathlib.Path) -> None:
    fedmesh.save(tmp_path / "x", {"w": np.zeros(2)})
    before = (tmp_path / "x").read_bytes()
    with pytest.raises(fedmesh.UnsupportedArray):
        fedmesh.save(tmp_path / "x", {"w": object()})
    assert (tmp_path / "x").read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_file_that_changes(tmp_path: pathlib.Path) -> None:
    (tmp_path / "x").write_bytes(b"12345678")
    body = body_of(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"123")
    with pytest.raises(fedmesh.BadFile, match="changed"):
        list(body.pieces())


def test_a_base_that_has_bfloat16() -> None:
    assert isinstance(read(b"".join(body_of({"w": np.ones(2, np.float32)}, {"w": "BF16"}).pieces()))["w"], fedmesh.BFloat16)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_bar() -> None:
    out, tty = io.StringIO(), Terminal()
    plain, drawn = fedmesh.Bar("push", out, 10), fedmesh.Bar("push", tty, 10)
    steps: List[int] = [*range(0, 2048, 64), 2048]
    for n in steps:
        plain(n, 2048)
        drawn(n, 2048)
    lines = out.getvalue().splitlines()
    assert len(lines) == 10 and lines[-1] == "push [##########] 2.0 KiB of 2.0 KiB"
    assert tty.getvalue().startswith("\rpush [") and tty.getvalue().endswith("2.0 KiB of 2.0 KiB\x1b[K\n")
