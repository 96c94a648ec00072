"""What the log says, and what counts, when something is wrong."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import fedmesh
import numpy as np
import pytest
from fedmesh.local import LocalMesh, find
from flwr.app import ArrayRecord

from fedmesh_flower import MeshRefused
from fedmesh_flower._link import Update

from .conftest import TWO, arrays, combiner, record, reply, sent, train, until, values


@pytest.fixture
def own() -> Iterator[LocalMesh]:
    """Peers that the test may kill."""
    with LocalMesh() as peers:
        yield peers


def test_a_peer_that_dies_is_not_noticed(own: LocalMesh) -> None:
    with fedmesh.Mesh(own.urls) as mesh:
        strategy = combiner(mesh, "s")
        model, _ = train(strategy, record(arrays()), [reply(arrays(1), 1)])
        own.kill("a")
        assert model is not None
        model, _ = train(strategy, model, [reply(arrays(2), 1)], 2)
        assert values(model) == {"w": 2, "b": 2} and strategy.model.round == 2


def test_a_mesh_that_is_away(own: LocalMesh, flower: list[str]) -> None:
    """Goes on with its own mean, delivers later, and each update counts once."""
    with fedmesh.Mesh(own.urls) as mesh:
        strategy = combiner(mesh, "s")
        model, _ = train(strategy, record(arrays()), [reply(arrays(1), 10)])
        for peer in own.names:
            own.kill(peer)
        strategy._link._patience = 1  # while nobody answers; else as long as it takes
        assert model is not None
        model, told = train(strategy, model, [reply(arrays(4), 10)], 2)
        assert values(model) == {"w": 4, "b": 4} and told is not None and "mesh-round" not in told
        away = [line for line in flower if line.startswith("ERROR")]
        assert len(away) == 1 and "goes on with its own mean; its update is pushed when the mesh is back" in away[0]
        for peer in own.names:
            own.restart(peer)
        strategy._link._patience = 60
        assert model is not None
        model, told = train(strategy, model, [reply(arrays(6), 10)], 3)
        assert any("back; the update" in line for line in flower)
        assert told is not None and told["mesh-combiners"] == 1
        updates = [u for r in mesh.session("s").rounds() for u in r.updates]
        assert len(updates) == len({(u.combiner, u.id) for u in updates}) == 3


def test_a_server_that_starts_again_counts_once(mesh: fedmesh.Mesh, name: str, flower: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    before, other = combiner(mesh, name, open=TWO), combiner(mesh, name, "south", TWO)
    sent(before, record(arrays()))
    push = before._link._push

    def then_give_up(update: Update) -> None:
        push(update)
        before._link._patience = 0.5  # nothing will come before it starts again

    monkeypatch.setattr(before._link, "_push", then_give_up)
    _, told = before.aggregate_train(1, [reply(arrays(1), 10)])
    assert told is not None and "mesh-round" not in told, "delivered, but the round waits for the other"
    again = combiner(mesh, name, open=TWO)
    sent(again, record(arrays()))
    train(other, record(arrays()), [reply(arrays(3), 10)])
    model, _ = again.aggregate_train(1, [reply(arrays(100), 10)])  # as if it had trained again, a little differently
    assert values(model) == {"w": 2, "b": 2}
    assert any("has brought an update from this model before" in line for line in flower)


def test_an_update_counted_later_is_waited_for(mesh: fedmesh.Mesh, name: str) -> None:
    """The other's has the same id, and its round is not this one's."""
    slow, fast = combiner(mesh, name, "slow"), combiner(mesh, name, "fast")
    sent(slow, record(arrays()))
    train(fast, record(arrays()), [reply(arrays(4), 10)])
    model, told = slow.aggregate_train(1, [reply(arrays(2), 10)])
    assert told is not None and told["mesh-round"] == 2
    assert values(model) == {"w": 6, "b": 6}, "4, and the 2 that it is from the model it began with"


def test_two_that_open_at_once(mesh: fedmesh.Mesh, name: str, flower: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = combiner(mesh, name, "first"), combiner(mesh, name, "second")

    def not_there() -> fedmesh.SessionInfo:
        first.join(record(arrays(1)))  # between the look and the opening
        raise fedmesh.UnknownSession("", "Unknown session", "", 404)

    monkeypatch.setattr(second._link, "_info", not_there)
    assert values(second.join(record(arrays(2)))) == {"w": 1, "b": 1}
    assert any("another federation opened" in line for line in flower)


def test_a_mesh_that_is_away_for_long(own: LocalMesh, flower: list[str]) -> None:
    """As many updates wait as the memory is meant for."""
    with fedmesh.Mesh(own.urls) as mesh:
        strategy = combiner(mesh, "s")
        model: ArrayRecord | None = strategy.join(record(arrays()))
        strategy._link._patience = 0.3
        for peer in own.names:
            own.kill(peer)
        for number in range(1, 7):
            assert model is not None
            model, _ = train(strategy, model, [reply(arrays(number), 1)], number)
        assert values(model) == {"w": 6, "b": 6}
        assert [float(u.arrays["w"][0, 0]) for u in strategy._link.waiting] == [3, 4, 5, 6]
        assert len([line for line in flower if "the oldest of 5 updates" in line]) == 2


def test_what_is_learned_while_the_mesh_is_away_counts_once(own: LocalMesh) -> None:
    """Four rounds, each one further than the one before. The first starts from the session's model, the others from the federation's own."""
    with fedmesh.Mesh(own.urls, timeout=30) as mesh:
        strategy = combiner(mesh, "s")
        model: ArrayRecord | None = strategy.join(record(arrays()))
        strategy._link._patience = 0.5
        for peer in own.names:
            own.kill(peer)
        for number in range(1, 5):
            assert model is not None
            model, _ = train(strategy, model, [reply(arrays(number), 1)], number)
        strategy._link._patience = 60
        for peer in own.names:
            own.restart(peer)
        assert model is not None
        sent(strategy, model, 5)
        assert not strategy._link.waiting
        session = mesh.session("s")
        until(lambda: sum(len(r.updates) for r in session.rounds() if r.state != "open") == 4)
        assert float(session.pull()["w"][0, 0]) == 4


def test_another_model(mesh: fedmesh.Mesh, name: str, flower: list[str]) -> None:
    sent(combiner(mesh, name), record(arrays()))
    with pytest.raises(MeshRefused, match=r"'w' is \(9, 9\) in the app's model and \(4, 3\) in the session's"):
        combiner(mesh, name, "south").join(record({**arrays(), "w": np.zeros((9, 9), np.float32)}))
    with pytest.raises(MeshRefused, match="no array 'b'"):
        combiner(mesh, name, "south").join(record({"w": np.zeros((4, 3), np.float32)}))
    assert len([line for line in flower if line.startswith("ERROR")]) == 2


def test_a_session_that_is_not_there(mesh: fedmesh.Mesh, name: str, flower: list[str]) -> None:
    with pytest.raises(MeshRefused, match="check the session's name"):
        combiner(mesh, name, open=None).join(record(arrays()))
    assert [line for line in flower if "cannot join the session" in line]


def test_a_session_closed_in_the_middle(mesh: fedmesh.Mesh, name: str, flower: list[str]) -> None:
    strategy = combiner(mesh, name)
    model, _ = train(strategy, record(arrays()), [reply(arrays(1), 1)])
    mesh.session(name).close()
    assert model is not None
    model, _ = train(strategy, model, [reply(arrays(2), 1)], 2)
    assert values(model) == {"w": 2, "b": 2}
    errors = [line for line in flower if line.startswith("ERROR")]
    assert len(errors) == 1 and "this round is north's alone" in errors[0] and "name another" in errors[0]
    with pytest.raises(MeshRefused, match="is closed: name another one"):
        combiner(mesh, name, "late").join(record(arrays()))


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A peer that asks for tokens: its URL, and the token of a combiner."""
    tokens = str(tmp_path / "tokens")

    def new(role: str) -> str:
        command = [str(find()), "token", "new", "--name", role, "--file", tokens, "--role", role]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    token = new("combiner")
    with LocalMesh(names=("a",), args=["--tokens-file", tokens], token=new("reader")) as peers:
        yield peers.url("a"), token


def test_a_token(guarded: tuple[str, str], flower: list[str]) -> None:
    peer, token = guarded
    with fedmesh.Mesh(peer, token="wrong") as mesh, pytest.raises(MeshRefused, match="a token that the peers know"):
        combiner(mesh, "s").join(record(arrays()))
    with fedmesh.Mesh(peer, token=token) as mesh, pytest.raises(MeshRefused, match="only an operator's may open"):
        combiner(mesh, "s").join(record(arrays()))
    assert len(flower) == 2


def test_no_mesh_at_all(flower: list[str]) -> None:
    with fedmesh.Mesh(["127.0.0.1:9"]) as mesh, pytest.raises(MeshRefused, match="check the peers' addresses"):
        combiner(mesh, "s", patience=0.5).join(record(arrays()))
    assert len(flower) == 1


@pytest.mark.parametrize("bad", [1.5, -1.0, float("nan")])
def test_weights_that_are_no_numbers_of_examples(mesh: fedmesh.Mesh, name: str, flower: list[str], bad: float) -> None:
    strategy = combiner(mesh, name)
    model, _ = train(strategy, record(arrays()), [reply(arrays(2), bad)])
    assert model is not None, "Flower's own mean"
    assert any("whole numbers" in line for line in flower)
    assert not any(r.updates for r in mesh.session(name).rounds())


def test_values_that_are_not_numbers(mesh: fedmesh.Mesh, name: str, flower: list[str]) -> None:
    strategy = combiner(mesh, name)
    train(strategy, record(arrays()), [reply(arrays(float("nan")), 1)])
    assert any("lower the learning rate" in line for line in flower)
