"""LocalMesh itself."""

from __future__ import annotations

import contextlib
import pathlib
import socket
import subprocess
from typing import List

import pytest
from conftest import CONFIG, arrays

import fedmesh
from fedmesh import local
from fedmesh.local import LocalError, LocalMesh, find


def test_kill_stop_restart(tmp_path: pathlib.Path) -> None:
    with LocalMesh(names=("x", "y"), folder=tmp_path / "peers", args=["--keep-models", "3"]) as peers:
        urls = peers.urls
        assert urls == [peers.url("x"), peers.url("y")]
        with fedmesh.Mesh(urls, timeout=30, combiner="c1") as mesh:
            session = mesh.open("s", arrays(), CONFIG)
            peers.kill("x")
            assert peers.processes["x"].returncode == -9
            with pytest.raises(LocalError, match="x does not run"):
                peers.kill("x")
            session.push(arrays(2), 1)
            peers.restart("x")
            peers.stop("y")
            assert peers.processes["y"].returncode == 0
            peers.start("y")
            peers.restart("y")  # one that runs
            assert peers.urls == urls
        for url in urls:
            with fedmesh.Mesh(url, timeout=30) as mesh:
                assert {p.name for p in mesh.status().peers if p.state == "alive"} == {"x", "y"}
                assert mesh.session("s").wait(1).weight == 1
        with pytest.raises(LocalError, match="no peer 'z'"):
            peers.url("z")
    assert all(p.returncode is not None for p in peers.processes.values())
    assert (tmp_path / "peers" / "x.log").stat().st_size


def test_a_temporary_folder_goes() -> None:
    with LocalMesh(names=("x",)) as peers:
        assert peers.log("x").exists()
    assert not peers.folder.exists() and peers.processes["x"].returncode is not None


def test_other_ports_where_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = local.free_ports, []
    with contextlib.ExitStack() as held:

        def ports(peers: int) -> List[List[int]]:
            asked.append(real(peers))
            if len(asked) < 3:  # the API's, then the gossip's
                held.enter_context(socket.create_server(("127.0.0.1", asked[-1][-1][len(asked) - 1])))
            return asked[-1]

        monkeypatch.setattr(local, "free_ports", ports)
        with LocalMesh(names=("x", "y")) as peers:
            assert len(asked) == 3 and peers.url("x").endswith(f":{asked[2][0][0]}")


def test_a_peer_that_does_not_start() -> None:
    with pytest.raises(LocalError, match=r"(?s)x ended with code 2.*unknown flag: --nosuch"):
        with LocalMesh(names=("x",), args=["--nosuch"]):
            pass


def test_which_command(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "bin" / "fedmesh"
    with pytest.raises(LocalError, match="is not there; make build"):
        LocalMesh(binary=here)
    monkeypatch.setenv("FEDMESH", str(here))
    with pytest.raises(LocalError, match="which FEDMESH names"):
        find()
    monkeypatch.delenv("FEDMESH")
    monkeypatch.setenv("PATH", str(here.parent))
    monkeypatch.setattr(local, "__file__", str(tmp_path / "site-packages" / "fedmesh" / "local.py"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LocalError, match="no command fedmesh"):
        find()
    here.parent.mkdir()
    here.touch(0o755)
    assert find() == here, "of the PATH"
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LocalError, match="no command fedmesh"):
        find()
    (tmp_path / "cmd" / "fedmesh").mkdir(parents=True)
    assert find() == here, "of the repository"


def test_peers_that_ask_for_tokens(tmp_path: pathlib.Path) -> None:
    tokens = tmp_path / "tokens"

    def new(role: str) -> str:
        command = [str(find()), "token", "new", "--name", role, "--role", role, "--file", str(tokens)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (tmp_path / "peer").write_text(new("peer"))
    with LocalMesh(names=("x", "y"), args=["--tokens-file", str(tokens), "--peer-token-file", str(tmp_path / "peer")], token=new("reader")) as peers:
        with fedmesh.Mesh(peers.urls, timeout=60) as mesh, pytest.raises(fedmesh.Unauthorized):
            mesh.status()
