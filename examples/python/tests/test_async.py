"""AsyncMesh against real peers."""

from __future__ import annotations

import asyncio
import pathlib
from typing import Any, Dict, List

import numpy as np
import pytest
from conftest import CONFIG, Cluster, arrays

import fedmesh


def test_a_round(cluster: Cluster, name: str) -> None:
    async def run() -> None:
        async with fedmesh.AsyncMesh(cluster.urls, timeout=60) as mesh:
            s = await mesh.open(name, arrays(), {**CONFIG, "target_combiners": 3})
            seed = await s.pull()
            waiting = asyncio.ensure_future(s.pull(seed, wait=60))
            receipts = await asyncio.gather(*(s.push(arrays(i), 1, seed, combiner=f"c{i}") for i in range(3)))
            assert {r.combiner for r in receipts} == {"c0", "c1", "c2"} and all(len(r.copies) == 2 for r in receipts)
            model = await waiting
            assert model.round == 1 and model["b"].tolist() == [1, 1, 1]
            assert (await s.wait(1, "final")).combiners == 3
            assert [r.round for r in await s.rounds(1, 1)] == [1]
            with pytest.raises(fedmesh.WrongLayout):
                await s.push({"x": np.zeros(2)}, 1, combiner="c9")
            with pytest.raises(fedmesh.NothingNewer):
                await s.pull(model, wait=0.1)
            assert (await mesh.status()).mesh and name in [i.name for i in await mesh.sessions()]
            await s.close()

    asyncio.run(run())


def test_killed_in_the_middle_of_a_push(cluster: Cluster, name: str, large: Dict[str, Any], tmp_path: pathlib.Path) -> None:
    """From a file, into a file."""
    fedmesh.save(tmp_path / "update", large)
    size = (tmp_path / "update").stat().st_size
    killed: List[int] = []

    async def run() -> None:
        async with fedmesh.AsyncMesh(cluster.urls, timeout=120, combiner="c1") as mesh:
            s = await mesh.open(name, {"w": np.zeros_like(large["w"])}, CONFIG)
            cluster.has(name)

            def kill(done: int, total: int) -> None:
                if done > total // 2 and not killed:
                    cluster.kill("a")
                    killed.append(done)

            r = await s.push(tmp_path / "update", 7, progress=kill)
            assert killed and len(r.copies) == 2 and "a" not in r.copies
            assert r.sent - size <= 4 << 20, f"{r.sent - size} bytes were sent again"
            cluster.restart("a")
            assert (await s.wait(1)).weight == 7
            m = await s.pull(which=1, path=tmp_path / "model")
            np.testing.assert_array_equal(m["w"], large["w"])

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["arrays", "file"])
def test_cancelled_in_the_middle_of_a_push(
    cluster: Cluster, name: str, large: Dict[str, Any], kind: str, tmp_path: pathlib.Path
) -> None:
    fedmesh.save(tmp_path / "update", large)
    update: Any = tmp_path / "update" if kind == "file" else large

    async def run() -> None:
        async with fedmesh.AsyncMesh(cluster.urls, timeout=60, combiner="c1") as mesh:
            s = await mesh.open(name, {"w": np.zeros_like(large["w"])}, CONFIG)

            def stop(done: int, total: int) -> None:
                if done > total // 4:
                    pushing.cancel()

            pushing = asyncio.ensure_future(s.push(update, 1, progress=stop))
            with pytest.raises(asyncio.CancelledError):
                await pushing
            r = await s.push(update, 1)
            assert not r.duplicate, "what was given up does not count"

    asyncio.run(run())
