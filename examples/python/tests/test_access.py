"""Tokens and TLS, at one peer that wants both."""

from __future__ import annotations

import pathlib
import shutil
import subprocess
from typing import Dict, Iterator

import pytest
from conftest import arrays, until

import fedmesh
from fedmesh.local import find, free_ports

EXTENSIONS = """
basicConstraints=critical,CA:FALSE
keyUsage=critical,digitalSignature
extendedKeyUsage=serverAuth,clientAuth
subjectAltName=IP:127.0.0.1
subjectKeyIdentifier=hash
authorityKeyIdentifier=keyid
"""


class Guarded:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder, self.binary = folder, str(find())
        self.tokens: Dict[str, str] = {}
        self._certificates()
        for name, args in {"c1": ["combiner", "--combiner", "c1", "--session", "s"], "op": ["operator"], "reader": ["reader"]}.items():
            self.tokens[name] = self._run(self.binary, "token", "new", "--name", name, "--file", str(folder / "tokens"), "--role", *args).strip()
        self.start()

    def start(self) -> None:
        api, gossip = free_ports(1)[0]
        self.address = f"127.0.0.1:{api}"
        args = ["--listen", self.address, "--gossip", f"127.0.0.1:{gossip}", "--data-dir", str(self.folder / "data"), "--name", "a"]
        args += ["--tls-cert", "peer.pem", "--tls-key", "peer.key", "--tls-ca", "ca.pem", "--tls-client-auth", "require"]
        with open(self.folder / "log", "wb") as log:
            self.process = subprocess.Popen([self.binary, "node", *args, "--tokens-file", "tokens"], cwd=self.folder, stdout=log, stderr=log)

    def _certificates(self) -> None:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        ca = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign"]
        self._run("openssl", "req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2", *ca)
        self._run("openssl", "req", *key, "-keyout", "peer.key", "-out", "peer.csr", "-subj", "/CN=peer")
        (self.folder / "ext").write_text(EXTENSIONS)
        sign = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "ext"]
        self._run("openssl", "x509", "-req", "-in", "peer.csr", "-out", "peer.pem", *sign)

    def _run(self, *args: str) -> str:
        return subprocess.run(args, cwd=self.folder, check=True, capture_output=True, text=True).stdout

    def mesh(self, token: str = "", cert: bool = True, timeout: float = 60) -> fedmesh.Mesh:
        pair = (str(self.folder / "peer.pem"), str(self.folder / "peer.key"))
        said = self.tokens.get(token, token) or None
        return fedmesh.Mesh(self.address, said, self.folder / "ca.pem", pair if cert else None, timeout, combiner="c1")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    if shutil.which("openssl") is None:
        pytest.skip("NOT RUN: no openssl to make certificates with")
    g = Guarded(tmp_path_factory.mktemp("guarded"))
    try:

        def up() -> bool:
            if g.process.poll() is not None:
                said = (g.folder / "log").read_text()
                assert "address already in use" in said, said
                g.start()  # somebody else got a port first
            try:
                with g.mesh("op", timeout=5) as m:
                    return bool(m.status().self == "a")
            except fedmesh.TimedOut:
                return False

        until(up, f"a peer with TLS and tokens, see {g.folder}/log")
        yield g
    finally:
        g.process.kill()
        g.process.wait()


def test_who_may_do_what(guarded: Guarded) -> None:
    with guarded.mesh("op") as m:
        m.open("s", arrays(), {"copies": 1, "target_combiners": 1})
    with guarded.mesh("c1") as m:
        assert m.session("s").push(arrays(1), 1).copies == ["a"]
        with pytest.raises(fedmesh.Forbidden):
            m.session("s").push(arrays(1), 1, combiner="c2")
    with guarded.mesh("reader") as m:
        assert m.session("s").wait(1).weight == 1
        with pytest.raises(fedmesh.Forbidden, match="reader"):
            m.session("s").push(arrays(1), 1)
    for token in ["", "fedmesh_" + "A" * 43]:
        with guarded.mesh(token) as m, pytest.raises(fedmesh.Unauthorized):
            m.sessions()


def test_no_certificate_is_no_answer(guarded: Guarded) -> None:
    with guarded.mesh("op", cert=False, timeout=1) as m, pytest.raises(fedmesh.TimedOut):
        m.sessions()


def test_a_peer_that_the_authority_does_not_know(guarded: Guarded) -> None:
    with fedmesh.Mesh("https://" + guarded.address, timeout=3) as m, pytest.raises(fedmesh.TimedOut, match="(?i)certificate"):
        m.sessions()


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ünicode"])
def test_tokens_that_are_none(token: str) -> None:
    with pytest.raises(fedmesh.InvalidArgument):
        fedmesh.Mesh("a:1", token)
