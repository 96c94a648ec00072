"""Rounds over real peers, in peace."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import fedmesh
import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvgM, FedMedian, FedProx, FedTrimmedAvg, Krum, Strategy

from fedmesh_flower import MeshStrategy

from .conftest import GRID, ONE, TWO, arrays, combiner, record, reply, sent, train, values


def test_two_federations_get_the_mean_of_all_nodes(mesh: fedmesh.Mesh, name: str, flower: list[str]) -> None:
    north, south = combiner(mesh, name, "north", TWO), combiner(mesh, name, "south", TWO)
    with ThreadPoolExecutor(2) as pool:
        n = pool.submit(train, north, record(arrays()), [reply(arrays(1), 10, 0.25), reply(arrays(2), 30, 0.5)])
        s = pool.submit(train, south, record(arrays()), [reply(arrays(8), 60, 1.0)])
        (from_north, told), (from_south, _) = n.result(), s.result()
    assert values(from_north) == values(from_south) == {"w": 5.5, "b": 5.5}  # (10·1 + 30·2 + 60·8) / 100
    assert north.model.digest == south.model.digest and north.model.round == 1
    assert from_north is not None and list(from_north) == ["w", "b"], "the app's order"
    assert told is not None and told["loss"] == 0.4375
    assert (told["mesh-round"], told["mesh-combiners"], told["mesh-examples"]) == (1, 2, 100)
    assert told["mesh-loss"] == pytest.approx(0.775)
    assert {(u.combiner, u.weight) for u in mesh.session(name).rounds()[0].updates} == {("north", 40), ("south", 60)}
    assert [line for line in flower if "of 2 combiners with 100 examples" in line]


def test_start_runs_as_flower_does(mesh: fedmesh.Mesh, name: str) -> None:
    strategy = MeshStrategy(FedProx(proximal_mu=0.1, fraction_evaluate=0), mesh, name, combiner="c", open=ONE)
    result = strategy.start(GRID, record(arrays()), num_rounds=3)
    assert values(result.arrays) == {"w": 12, "b": 12}
    assert [m["mesh-round"] for m in result.train_metrics_clientapp.values()] == [1, 2, 3]


def test_who_comes_later_takes_up_the_model(mesh: fedmesh.Mesh, name: str, flower: list[str]) -> None:
    first, late = combiner(mesh, name, "first"), combiner(mesh, name, "late")
    train(first, record(arrays()), [reply(arrays(7), 5)])
    seen: list[dict[str, float]] = []
    late.start(GRID, record(arrays(-1)), num_rounds=1, evaluate_fn=lambda _, a: seen.append(values(a)))
    assert seen[0] == {"w": 7, "b": 7}, "its evaluation before the first round is of the mesh's model"
    assert any("late joined" in line and "at round 1" in line for line in flower)
    assert sent(first, record(arrays()), 2)["w"][0, 0] == 11, "and the first goes on from what the late one made"


def test_nodes_learn_the_round(mesh: fedmesh.Mesh, name: str) -> None:
    strategy, config = combiner(mesh, name), ConfigRecord()
    strategy.configure_train(1, record(arrays()), config, GRID)
    assert (config["mesh-round"], config["server-round"]) == (0, 1)


def broken() -> Message:
    """The reply of a node that failed."""
    asked = Message(content=RecordDict(), message_type=MessageType.TRAIN, dst_node_id=1)
    return Message(error=Error(1, "broken"), reply_to=asked)


def test_a_node_that_fails_has_no_weight(mesh: fedmesh.Mesh, name: str) -> None:
    model, told = train(combiner(mesh, name), record(arrays()), [broken(), reply(arrays(3), 5)])
    assert values(model) == {"w": 3, "b": 3} and told is not None and told["mesh-examples"] == 5


def test_without_replies_the_others_model_is_taken_over(mesh: fedmesh.Mesh, name: str, flower: list[str]) -> None:
    idle, busy = combiner(mesh, name, "idle"), combiner(mesh, name, "busy")
    sent(idle, record(arrays()))
    train(busy, record(arrays()), [reply(arrays(3), 5)])
    model, _ = idle.aggregate_train(1, [broken()])
    assert values(model) == {"w": 3, "b": 3}
    assert [u.combiner for r in mesh.session(name).rounds() for u in r.updates] == ["busy"]
    assert any("no node replied; taking over round 1" in line for line in flower)


@pytest.mark.parametrize("kind", [FedAdam, FedMedian, FedProx, FedTrimmedAvg, Krum])
def test_around_any_strategy(mesh: fedmesh.Mesh, name: str, kind: Callable[[], Strategy]) -> None:
    def replies() -> list[Message]:  # some strategies use them up
        return [reply(arrays(1), 10), reply(arrays(2), 10), reply(arrays(3), 10)]

    alone = kind()
    alone.configure_train(1, record(arrays()), ConfigRecord(), GRID)
    own, _ = alone.aggregate_train(1, replies())
    strategy = MeshStrategy(kind(), mesh, name, combiner="c", open=ONE)
    model, _ = train(strategy, record(arrays()), replies())
    assert values(model) == pytest.approx(values(own)), "of one combiner the mesh's mean is its own"
    assert strategy.model["w"].dtype == np.float32


def test_integers_stay_integers(mesh: fedmesh.Mesh, name: str) -> None:
    """Flower's mean of integers is float64."""
    seed = {**arrays(), "seen": np.zeros((), np.int64)}
    strategy = combiner(mesh, name)
    model, _ = train(strategy, record(seed), [reply({**arrays(1), "seen": np.array(5)}, 1), reply({**arrays(1), "seen": np.array(6)}, 2)])
    assert model is not None and model["seen"].numpy() == 6 and model["seen"].numpy().dtype == np.int64


def test_a_strategy_with_a_model_of_its_own_is_refused(mesh: fedmesh.Mesh) -> None:
    with pytest.raises(ValueError, match="fedavgm"):
        MeshStrategy(FedAvgM(), mesh, "s", combiner="c")
