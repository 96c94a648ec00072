"""Against real peers."""

from __future__ import annotations

import pathlib
import signal
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, List

import numpy as np
import pytest
from conftest import CONFIG, Cluster, arrays, until

import fedmesh


def test_a_round(mesh: fedmesh.Mesh, name: str) -> None:
    s = mesh.open(name, arrays(), {**CONFIG, "target_combiners": 2})
    seed = s.pull()
    assert seed.round == 0 and seed["w"].shape == (4, 3) and not seed["w"].any()
    first = s.push(arrays(1), 1, seed, metrics={"loss": 0.5})
    assert first.base == seed.digest and len(first.copies) == 2 and not first.duplicate
    assert s.push(arrays(1), 1, seed, metrics={"loss": 0.5}).duplicate
    s.push(arrays(5), 3, combiner="c2", metrics={"loss": 1.5})
    made = s.wait(1)
    assert made.weight == 4 and made.metrics["loss"] == 1.25 and {u.combiner for u in made.updates} == {"c1", "c2"}
    model = s.pull(seed, wait=60)
    assert model.round == 1 and model.digest == made.model
    np.testing.assert_array_equal(model["w"], np.full((4, 3), 4, np.float32))
    assert [r.round for r in s.rounds(1, 1)] == [1]
    assert s.pull(which=0).digest == s.pull(which=seed.digest).digest == seed.digest
    assert s.wait(1, state="final").state == "final"
    assert name in [i.name for i in mesh.sessions()]
    assert s.close().state in ("closing", "closed")
    until(lambda: s.info().state == "closed", "closed session")
    with pytest.raises(fedmesh.SessionClosed):
        s.push(arrays(1), 1, combiner="c3")


def test_a_second_opening_is_the_same(mesh: fedmesh.Mesh, name: str) -> None:
    mesh.open(name, arrays(), CONFIG)
    mesh.open(name, arrays(), CONFIG)
    with pytest.raises(fedmesh.SessionConflict):
        mesh.open(name, arrays(1), CONFIG)


def test_nothing_newer(mesh: fedmesh.Mesh, name: str) -> None:
    s = mesh.open(name, arrays(), CONFIG)
    with pytest.raises(fedmesh.NothingNewer):
        s.pull(s.pull(), wait=0.2)


@pytest.mark.parametrize("size", [3, 1 << 20, 6 << 20], ids=["small", "4MiB", "24MiB"])
def test_problems_are_exceptions(mesh: fedmesh.Mesh, name: str, size: int) -> None:
    s = mesh.open(name, {"w": np.zeros(size, np.float32)}, CONFIG)
    with pytest.raises(fedmesh.WrongLayout, match="v") as wrong:
        s.push({"v": np.zeros(size, np.float32)}, 1)
    assert wrong.value.status == 422 and wrong.value.type == "urn:fedmesh:problem:wrong-layout" and wrong.value.detail
    bad = np.zeros(size, np.float32)
    bad[1] = np.nan
    with pytest.raises(fedmesh.InvalidValue, match="NaN") as invalid:
        s.push({"w": bad}, 1)
    assert invalid.value.extensions["tensor"] == "w" and invalid.value.extensions["index"] == 1
    s.push({"w": np.zeros(size, np.float32)}, 1, id="one")
    with pytest.raises(fedmesh.UpdateConflict):
        s.push({"w": np.ones(size, np.float32)}, 1, base=s.pull(which=0), id="one")
    with pytest.raises(fedmesh.UnknownSession, match="nosuch"):
        mesh.session("nosuch").push({"w": bad}, 1)


def test_unreadable_file(mesh: fedmesh.Mesh, name: str, tmp_path: pathlib.Path) -> None:
    s = mesh.open(name, arrays(), CONFIG)
    (tmp_path / "x").write_bytes(b"no model at all" * 9)
    with pytest.raises(fedmesh.UnreadableModel):
        s.push(tmp_path / "x", 1)


def test_files_in_and_out(mesh: fedmesh.Mesh, name: str, tmp_path: pathlib.Path) -> None:
    given: Dict[str, Any] = {
        "f16": np.arange(6, dtype=np.float16).reshape(2, 3),
        "bf16": fedmesh.BFloat16.of([1.5, -2.0]),
        "f64": np.array(3.25),
        "i64": np.arange(3),
        "flag": np.array([True, False]),
        "none": np.zeros((0, 4), np.float32),
    }
    fedmesh.save(tmp_path / "seed", given)
    s = mesh.open(name, tmp_path / "seed", CONFIG)
    m = s.pull(path=tmp_path / "pulled")
    assert (tmp_path / "pulled").read_bytes() == (tmp_path / "seed").read_bytes(), "the peers' canonical form is ours"
    assert m.dtypes == {"f16": "F16", "bf16": "BF16", "f64": "F64", "i64": "I64", "flag": "BOOL", "none": "F32"}
    assert m["bf16"].tolist() == [1.5, -2.0] and m["f64"].shape == () and m["none"].shape == (0, 4)
    m["f16"][0, 0] = 9
    assert np.asarray(fedmesh.load(tmp_path / "pulled")["f16"])[0, 0] == 0, "writing to the arrays leaves the file alone"
    s.push(m.arrays, 1, m)  # float32 becomes bfloat16 again, as the base has it
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pulled", "seed"]


def test_one_peer_is_away(cluster: Cluster, name: str) -> None:
    with fedmesh.Mesh(cluster.urls, timeout=60, combiner="c1") as mesh:
        s = mesh.open(name, arrays(), CONFIG)
        cluster.has(name)
        cluster.stop("a")
        try:
            assert len(s.push(arrays(1), 1).copies) == 2
            assert s.pull()["w"].shape == (4, 3)
        finally:
            cluster.restart("a")


def test_all_are_away() -> None:
    with fedmesh.Mesh(["127.0.0.1:1", "127.0.0.1:2"], timeout=0.5) as mesh:
        with pytest.raises(fedmesh.TimedOut, match="none of the 2 peers") as e:
            mesh.status()
        assert isinstance(e.value, TimeoutError) and isinstance(e.value.__cause__, fedmesh.Unreachable)


def test_killed_in_the_middle_of_a_push(cluster: Cluster, name: str, large: Dict[str, Any]) -> None:
    kept = large["w"].nbytes
    with fedmesh.Mesh(cluster.urls, timeout=120, combiner="c1") as mesh:
        s = mesh.open(name, {"w": np.zeros_like(large["w"])}, CONFIG)
        cluster.has(name)
        killed: List[int] = []

        def kill(done: int, total: int) -> None:
            if done > total // 2 and not killed:
                cluster.kill("a")
                killed.append(done)

        r = s.push(large, 7, progress=kill)
        assert killed and not r.duplicate and len(r.copies) == 2 and "a" not in r.copies
        assert r.sent - kept <= 4 << 20, f"{r.sent - kept} bytes were sent again"
        print(f"killed at {killed[0]} of {kept} bytes, {r.sent - kept} sent again")
        cluster.restart("a")
        assert s.wait(1).weight == 7
        parts: List[int] = []
        m = s.pull(which=1, progress=lambda done, total: parts.append(done))
        assert parts[-1] > kept
        np.testing.assert_array_equal(m["w"], large["w"])


def test_a_peer_that_is_frozen(cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmesh._wire.ANSWER", 5.0)
    with fedmesh.Mesh(cluster.urls, timeout=60, combiner="c1") as mesh:
        s = mesh.open(name, arrays(), CONFIG)
        cluster.has(name)
        cluster.processes["a"].send_signal(signal.SIGSTOP)
        try:
            r = s.push(arrays(1), 1)
            assert len(r.copies) == 2 and not r.duplicate
        finally:
            cluster.processes["a"].send_signal(signal.SIGCONT)
        assert s.wait(1).combiners == 1
    cluster.wait()


def test_many_threads(mesh: fedmesh.Mesh, name: str) -> None:
    s = mesh.open(name, arrays(), {**CONFIG, "target_combiners": 16})
    seed = s.pull()
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda i: s.push(arrays(i), 1, seed, combiner=f"c{i}", timeout=None), range(16)))
    assert len({r.combiner for r in done}) == 16 and s.pull(seed, wait=60)["w"][0, 0] == 7.5


def test_memory_stays_flat(mesh: fedmesh.Mesh, name: str, large: Dict[str, Any], tmp_path: pathlib.Path) -> None:
    """A push holds a piece, of arrays that are not as they go over the wire too; a pull holds the model once."""
    turned = {"w": np.asfortranarray(large["w"]).astype(">f4")}
    size = large["w"].nbytes
    s = mesh.open(name, {"w": np.zeros_like(large["w"])}, CONFIG)
    with Peak() as pushed:
        s.push(turned, 1)
    s.wait(1)
    with Peak() as pulled:
        m = s.pull(which=1)
    with Peak() as filed:
        f = s.pull(which=1, path=tmp_path / "model")
    with Peak() as again:
        s.push(tmp_path / "model", 1, combiner="c2")
    print(f"of {size} bytes, held at most: push {pushed.bytes}, pull {pulled.bytes}, to a file {filed.bytes}, from a file {again.bytes}")
    assert pushed.bytes < 8 << 20 and filed.bytes < 8 << 20 and again.bytes < 8 << 20 and pulled.bytes < size * 1.25
    np.testing.assert_array_equal(m["w"], large["w"])
    np.testing.assert_array_equal(f["w"], large["w"])


class Peak:
    """What Python and numpy allocated at most, beyond what there was."""

    bytes = 0

    def __enter__(self) -> Peak:
        tracemalloc.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
