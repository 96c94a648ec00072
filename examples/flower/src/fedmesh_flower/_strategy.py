"""The strategy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from logging import ERROR, INFO, WARNING
from typing import Any

import fedmesh
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.common.logger import log
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvgM, Result, Strategy

from ._advice import MeshRefused, advice
from ._link import Link
from ._records import Arrays, arrays_of, check, fitted, record_of, told, weight_of, with_mesh


class MeshStrategy(Strategy):
    """Makes a ServerApp a combiner of a mesh, around any strategy.

    inner samples nodes, and aggregates and evaluates as it does alone. Its mean is pushed with the number of examples behind it, and what
    the round of the mesh makes of all combiners' means is this round's model. Where the mesh cannot be had within patience seconds, this
    round's model is inner's own, and the update is pushed when the mesh is back. Nodes find in their config, as "mesh-round", the round
    that made the model they train from.

    combiner is this federation's name in the mesh; no other may have it. open is the config of the session ("target_combiners": how many
    federations a round waits for, "round_timeout": and for how long), which the first federation opens with its initial arrays; None joins only.
    weighted_by is the key of the nodes' numbers of examples, by default inner's.
    """

    def __init__(
        self,
        inner: Strategy,
        mesh: fedmesh.Mesh,
        session: str,
        *,
        combiner: str,
        open: Mapping[str, Any] | None = None,
        patience: float = 600.0,
        weighted_by: str | None = None,
    ) -> None:
        if isinstance(inner, FedAvgM):
            raise ValueError('FedAvgM goes by a global model of its own: use FedAvg, and open={"strategy": "fedavgm", …}')
        self.inner = inner
        self.weighted_by = weighted_by or str(getattr(inner, "weighted_by_key", "num-examples"))
        self._link = Link(mesh, session, combiner, open, patience)
        self._order: list[str] = []  # of the app's arrays
        self._own: Arrays | None = None  # inner's own mean, where that is the present model

    @property
    def model(self) -> fedmesh.Model:
        """The mesh's model that was taken last, with its round and digest."""
        if self._link.model is None:
            raise MeshRefused("no model yet: the first round joins the session")
        return self._link.model

    def start(self, grid: Grid, initial_arrays: ArrayRecord, *args: Any, **kwargs: Any) -> Result:
        """As Strategy.start, from the session's present model if it has gone further than initial_arrays."""
        return super().start(grid, self.join(initial_arrays), *args, **kwargs)

    def join(self, arrays: ArrayRecord) -> ArrayRecord:
        """Join the session, or open it with arrays; returns its present model. Raises MeshRefused."""
        own = arrays_of(arrays)
        self._order = list(own)
        try:
            model = self._link.join(own)
            check(own, model)
        except (fedmesh.FedmeshError, MeshRefused) as e:
            text = advice(e) if isinstance(e, fedmesh.FedmeshError) else str(e)
            log(ERROR, "mesh: %s cannot join the session %s: %s", self._link.combiner, self._link.session.name, text)
            raise MeshRefused(text) from e
        log(INFO, "mesh: %s joined %s at round %d, model %s", self._link.combiner, model.session, model.round, model.digest[:8])
        return record_of(model, self._order)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Train from the mesh's present model."""
        if self._link.model is None:
            arrays = self.join(arrays)
        else:
            try:
                newer = self._link.newer()
            except (fedmesh.FedmeshError, MeshRefused) as e:
                log(WARNING, "mesh: going on with the model at hand: %s", _line(e))
            else:
                if newer is not None:
                    log(INFO, "mesh: taking up the model of round %d, %s", newer.round, newer.digest[:8])
                    arrays = self._take(newer)
        config["mesh-round"] = self.model.round
        return self.inner.configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Push inner's mean, and return what the mesh makes of it and of the others'."""
        replies = list(replies)
        own, metrics = self.inner.aggregate_train(server_round, replies)
        mean = arrays_of(own) if own is not None else None
        try:
            weight = weight_of(replies, self.weighted_by)
            if mean is None or weight == 0:
                return self._idle(), metrics
            mean = fitted(mean, self.model)
            update = self._link.update(mean, weight, self._own, told(metrics))
            self._link.push(update)
            model, counted = self._link.counted(update)
        except fedmesh.TimedOut as e:
            waits = "; its update is pushed when the mesh is back" if self._link.waiting else ""
            log(ERROR, "mesh: away, so %s goes on with its own mean%s: %s", self._link.combiner, waits, advice(e))
        except (fedmesh.FedmeshError, MeshRefused) as e:
            log(ERROR, "mesh: this round is %s's alone: %s", self._link.combiner, _line(e))
        else:
            log(
                INFO,
                "mesh: round %d is %s, of %d combiner%s with %d examples",
                counted.round,
                model.digest[:8],
                counted.combiners,
                "" if counted.combiners == 1 else "s",
                counted.weight,
            )
            return self._take(model), with_mesh(metrics, counted)
        self._own = mean if mean is not None else self._own
        return own, metrics

    def configure_evaluate(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """As inner does."""
        return self.inner.configure_evaluate(server_round, arrays, config, grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """As inner does: the federation's own metrics."""
        return self.inner.aggregate_evaluate(server_round, replies)

    def summary(self) -> None:
        """Log inner's summary and the mesh."""
        self.inner.summary()
        log(INFO, "\t└──> Mesh: combiner %s of session %s, around %s", self._link.combiner, self._link.session.name, type(self.inner).__name__)

    def _idle(self) -> ArrayRecord | None:
        """A round without replies: nothing is pushed, and the mesh's next model is taken over."""
        model = self._link.next()
        log(INFO, "mesh: no node replied; %s", f"taking over round {model.round}" if model else "nor has the mesh a newer model")
        return self._take(model) if model else None

    def _take(self, model: fedmesh.Model) -> ArrayRecord:
        self._own = None
        return record_of(model, self._order)


def _line(e: Exception) -> str:
    return advice(e) if isinstance(e, fedmesh.FedmeshError) else str(e)
