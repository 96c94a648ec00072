"""How calls go from peer to peer, without a network."""

from __future__ import annotations

import itertools
import pickle
from typing import Any, Dict, Iterator, List, Optional

import numpy as np
import pytest
from fake import RECEIPT, Fake, Reply, problem, reply
from hypothesis import given
from hypothesis import strategies as st

import fedmesh
from fedmesh._calls import Calls
from fedmesh._plan import Ask, Plan, urls_of
from fedmesh._problems import Unreachable, read_problem
from fedmesh._types import Receipt

INFO = {
    "name": "s",
    "key": "k",
    "config": {},
    "seed": "0" * 64,
    "state": "open",
    "round": 4,
    "model": "b" * 64,
    "model_round": 3,
    "members": [],
    "divergent": 0,
}
SMALL = {"w": np.zeros(4, np.float32)}
LARGE = {"w": np.zeros(25, np.float32)}  # of 100 bytes and a header, above the tests' resume_from


def push(
    f: Fake, model: Any = SMALL, base: Optional[str] = "b" * 64, id: Optional[str] = "i", timeout: float = 60
) -> Plan[Receipt]:
    return Calls(f.peers, 150, timeout).push("s", model, 3, base, "c", id, {"loss": 0.5}, None, timeout)


def test_moves_on_and_sends_the_same() -> None:
    lost: Iterator[Reply] = iter([Unreachable("reset"), problem("unavailable", 503), problem("rate", 429)])

    def script(a: Ask) -> Reply:
        if a.method == "GET":
            return reply(200, INFO)
        failure: Optional[Reply] = next(lost, None)
        return failure or reply(201, RECEIPT)

    f = Fake(script)
    r = f.run(push(f, base=None, id=None))
    puts = [a for a in f.asked if a.method == "PUT"]
    assert "".join(a.peer[-1] for a in puts) == "abca"
    assert len({str(a.query) for a in puts}) == 1
    assert puts[0].query == {"weight": "3", "metric.loss": "0.5", "base": "b" * 64, "id": "r3-" + "b" * 16}
    assert [a.headers["Fedmesh-Try"] for a in puts] == ["1", "2", "3", "4"] and len({a.headers["Fedmesh-Request"] for a in puts}) == 1
    assert r.request == puts[0].headers["Fedmesh-Request"]


@pytest.mark.parametrize("status, kind", [(400, "invalid-request"), (403, "forbidden"), (409, "update-conflict"), (422, "wrong-layout")])
def test_answers_are_final(status: int, kind: str) -> None:
    f = Fake(lambda a: problem(kind, status, tensor="w"))
    with pytest.raises(fedmesh.Problem, match="so it is") as e:
        f.run(push(f))
    assert f.tried == "a" and e.value.status == status and e.value.extensions == {"tensor": "w"} and e.value.peer == "http://a"


def test_unknown_is_asked_of_all() -> None:
    f = Fake(lambda a: reply(201, RECEIPT) if a.peer == "http://c" else problem("unknown-session", 404))
    f.run(push(f))
    assert f.tried == "abc"
    f = Fake(lambda a: problem("unknown-session", 404))
    with pytest.raises(fedmesh.UnknownSession):
        f.run(push(f))
    assert f.tried == "abc"
    f = Fake(lambda a: Unreachable("gone") if a.peer == "http://c" else problem("unknown-session", 404))
    with pytest.raises(fedmesh.UnknownSession):
        f.run(push(f))
    assert f.tried.count("c") == 3, "one that does not answer may know it"


def test_retry_after_is_obeyed() -> None:
    f = Fake(lambda a: problem("unavailable", 503, retry_after=7) if f.now < 6 else reply(201, RECEIPT))
    f.run(push(f))
    assert f.tried == "abca" and f.slept[0] == pytest.approx(7.1, abs=0.01)


def test_the_timeout_bounds_it() -> None:
    f = Fake(lambda a: Unreachable("refused", refused=True))
    with pytest.raises(fedmesh.TimedOut, match="refused") as e:
        f.run(push(f, timeout=20))
    assert f.now == pytest.approx(20, abs=0.1) and isinstance(e.value.__cause__, Unreachable)
    assert max(f.slept) <= 3 and (e.value.base, e.value.id) == ("b" * 64, "i")


def test_the_end_of_the_timeout_hides_no_failure() -> None:
    def script(a: Ask) -> Reply:
        if len(f.asked) == 1:
            return Unreachable("no good certificate")
        f.now = 30  # in the middle of the second attempt
        return Unreachable("the peer stalled")

    f = Fake(script)
    with pytest.raises(fedmesh.TimedOut, match="no good certificate"):
        f.run(push(f, timeout=20))
    assert len(f.asked) == 2
    f = Fake(lambda a: Unreachable("the peer stalled") if f.now < 1 else Unreachable("reset"), urls="a")
    with pytest.raises(fedmesh.TimedOut, match="reset"):
        f.run(push(f, timeout=20))


def test_a_failed_peer_comes_last() -> None:
    f = Fake(lambda a: Unreachable("reset") if a.peer == "http://a" else reply(201, RECEIPT))
    f.run(push(f))
    f.run(push(f))
    assert f.tried == "abb"
    f.now += 6
    f.run(push(f))
    assert f.tried == "abbab"


class Tus:
    """Peers that hold one upload, of which each may break off after some bytes."""

    def __init__(self, breaks: Dict[str, List[int]]) -> None:
        self.breaks = breaks
        self.held: Dict[str, bytes] = {}
        self.dead: set[str] = set()
        self.begun = 0

    def __call__(self, a: Ask) -> Reply:
        if a.peer in self.dead:
            return Unreachable("refused", refused=True)
        if a.method == "POST":
            self.begun += 1
            self.held = {a.peer: b""}
            return reply(201, None, {"location": "/v1/uploads/u"})
        if a.path != "/v1/uploads/u" or a.peer not in self.held:
            return problem("unknown-upload", 404)
        held = self.held[a.peer]
        if a.method == "PATCH":
            assert a.body is not None and a.handed is not None
            assert a.start == len(held) and a.headers["Upload-Offset"] == str(a.start)
            rest = b"".join(a.body.pieces(a.start))
            if self.breaks.get(a.peer):
                n = self.breaks[a.peer].pop(0)
                if n < 0:  # dies; the second holder has all but a little
                    self.dead.add(a.peer)
                    self.held["http://c"] = held + rest[: max(-n - 3, 0)]
                self.held[a.peer] = held + rest[: abs(n)]
                a.handed(abs(n))
                return Unreachable("reset")
            a.handed(len(rest))
            self.held[a.peer] = held + rest
        if a.method == "GET":
            return reply(201, RECEIPT)
        return reply(204, None, {"upload-offset": str(len(self.held[a.peer]))})


def test_upload_goes_on_at_the_same_peer() -> None:
    tus = Tus({"http://a": [10, 20]})
    f = Fake(tus)
    r = f.run(push(f, LARGE))
    assert tus.begun == 1 and f.tried.strip("a") == "" and [a.start for a in f.asked if a.method == "PATCH"] == [0, 10, 30]
    assert r.sent == len(tus.held["http://a"]) and tus.held["http://a"][-100:] == b"\0" * 100


def test_upload_goes_on_at_the_second_holder() -> None:
    tus = Tus({"http://a": [-40]})
    f = Fake(tus)
    r = f.run(push(f, LARGE))
    whole = tus.held["http://c"]
    assert tus.begun == 1 and whole[-100:] == b"\0" * 100 and [a.start for a in f.asked if a.method == "PATCH"] == [0, 37]
    assert r.sent == len(whole) + 3


def test_upload_that_all_lost_begins_anew() -> None:
    tus = Tus({"http://a": [-2]})
    f = Fake(tus)
    f.run(push(f, LARGE))
    assert tus.begun == 2 and "http://b" in tus.held


def test_upload_ends_where_tus_is_not_spoken() -> None:
    f = Fake(lambda a: problem("unknown-route", 404) if a.method == "POST" else reply(201, RECEIPT))
    f.run(push(f, LARGE))
    assert [a.method for a in f.asked] == ["POST", "PUT"]


def test_upload_whose_fault_was_lost_is_told() -> None:
    """The connection broke as the peer answered with a fault; HEAD has the status, GET the text."""

    def script(a: Ask) -> Reply:
        if a.method == "POST":
            return reply(201, None, {"location": "/v1/uploads/u"})
        if a.method == "PATCH":
            return Unreachable("reset")
        return problem("wrong-layout", 422) if a.method == "GET" else reply(422)

    f = Fake(script)
    with pytest.raises(fedmesh.WrongLayout, match="so it is"):
        f.run(push(f, LARGE))
    assert [a.method for a in f.asked] == ["POST", "PATCH", "HEAD", "GET", "DELETE"]


DIGEST = "e" * 64


def blob(n: int = 5) -> bytes:
    from fedmesh._safetensors import body_of

    return b"".join(body_of({"w": np.arange(n, dtype=np.float32)}).pieces())


@pytest.mark.parametrize("ranges", [True, False])
def test_pull_goes_on_where_it_broke_off(ranges: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmesh._pull._new_hash", lambda: None)
    whole = blob()
    cuts = itertools.chain([10, 30], itertools.repeat(len(whole)))

    def script(a: Ask) -> Reply:
        assert a.sink is not None
        begin = 0
        headers = {"etag": f'"{DIGEST}"', "fedmesh-round": "2"}
        if "Range" in a.headers and ranges:
            begin = int(a.headers["Range"][6:-1])
            headers["content-range"] = f"bytes {begin}-{len(whole) - 1}/{len(whole)}"
        headers["content-length"] = str(len(whole) - begin)
        status = 206 if begin else 200
        a.sink.begin(status, headers)
        end = next(cuts)
        for i in range(begin, end, 7):
            a.sink.write(whole[i : min(i + 7, end)])
        return reply(status) if end == len(whole) else Unreachable("reset")

    f = Fake(script)
    m = f.run(Calls(f.peers, 1, 60).pull("s", None, 0, None, None, None, 60))
    assert m["w"].tolist() == [0, 1, 2, 3, 4] and m.round == 2 and f.tried == "abc"
    assert [a.path[-6:] for a in f.asked] == ["/model", "eeeeee", "eeeeee"]


def test_pull_of_other_bytes_is_refused() -> None:
    blake3 = pytest.importorskip("blake3", reason="NOT RUN: no blake3, so digests are not checked")
    whole = blob()

    def script(a: Ask) -> Reply:
        assert a.sink is not None
        a.sink.begin(200, {"etag": f'"{digest}"', "fedmesh-round": "1", "content-length": str(len(whole))})
        a.sink.write(whole)
        return reply(200)

    digest = blake3.blake3(whole).hexdigest()
    f = Fake(script)
    assert f.run(Calls(f.peers, 1, 60).pull("s", None, 0, None, None, None, 60)).digest == digest
    digest = DIGEST
    with pytest.raises(fedmesh.DigestMismatch):
        f.run(Calls(f.peers, 1, 60).pull("s", None, 0, None, None, None, 60))


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 0},
        {"weight": 1.5},
        {"weight": True},
        {"weight": 2**38},
        {"base": "latests"},
        {"combiner": "a/b"},
        {"combiner": None},
        {"id": "a b"},
        {"id": ""},
        {"metrics": {"x": float("nan")}},
        {"metrics": {"x/y": 1.0}},
        {"timeout": 0},
    ],
    ids=str,
)
def test_what_all_would_refuse_is_not_sent(change: Dict[str, Any]) -> None:
    f = Fake(lambda a: reply(201, RECEIPT))
    args: Dict[str, Any] = dict(weight=1, base="b" * 64, combiner="c", id=None, metrics=None, progress=None, timeout=9)
    with pytest.raises(fedmesh.InvalidArgument):
        f.run(Calls(f.peers, 1, 60).push("s", SMALL, **{**args, **change}))
    assert not f.asked


def test_urls() -> None:
    assert urls_of("a:1, b:2,a:1", False) == ["http://a:1", "http://b:2"]
    assert urls_of(["a:1", "http://b:2/"], True) == ["https://a:1", "http://b:2"]
    for bad in ["", "ftp://a:1", "http://a:1/v1", "http://u@a:1", "a:b", "http://"]:
        with pytest.raises(fedmesh.InvalidArgument):
            urls_of(bad, False)


@given(st.integers(300, 599), st.dictionaries(st.sampled_from(["content-type", "retry-after", "fedmesh-problem"]), st.text()), st.binary())
def test_any_answer_makes_a_problem(status: int, headers: Dict[str, str], body: bytes) -> None:
    p = read_problem(status, headers, body, "http://a")
    assert p.status == status and str(status) in str(p) and str(p).isprintable()


def test_problems_survive_pickling() -> None:
    p = read_problem(409, {"content-type": "application/problem+json"}, problem("update-conflict", 409, held="x").body, "http://a")
    q = pickle.loads(pickle.dumps(p))
    assert type(q) is fedmesh.UpdateConflict and q.extensions == {"held": "x"} and str(q) == str(p)
