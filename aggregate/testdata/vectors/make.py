"""Writes what the real strategies of Flower and FEDn make of some updates, for vectors_test.go.

    python -m venv v && v/bin/pip install -r requirements-flwr.txt && v/bin/python make.py flwr > flwr.json
    python -m venv w && w/bin/pip install -r requirements-fedn.txt && w/bin/python make.py fedn > fedn.json

The two packages want different versions of what they share, hence two environments. All inputs are multiples of 1/8192 that
float32 holds, and are given as integers. They are handed over as float64 arrays, so that the results are those of the strategies'
formulas and not of rounding in their float32 sums. Each round starts from the result of the one before, rounded to float32.
"""

import json
import logging
import sys

import numpy as np

ROUNDS, UPDATES, UNIT = 4, 11, 8192
SHAPES = [(5, 6), (10,)]


def inputs():
    """The first model, and of each round the updates with their numbers of examples. Two updates are far off."""
    rng = np.random.default_rng(3)

    def ints(scale):
        return [np.rint(rng.normal(0, scale, s)).astype(np.int64) for s in SHAPES]

    first = ints(UNIT)
    rounds = []
    for r in range(ROUNDS):
        updates = []
        for k in range(UPDATES):
            step = ints(30 * UNIT if k in (3, 8) else UNIT / (4 + r))
            updates.append([a + b for a, b in zip(first, step)])
        rounds.append((updates, [int(w) for w in rng.integers(1, 500, UPDATES)]))
    return first, rounds


def real(model):
    return [np.asarray(a, dtype=np.float64) / UNIT for a in model]


def flat(model):
    return [x for a in model for x in np.asarray(a).ravel().tolist()]


def flower(out, first, rounds):
    from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
    from flwr.server.strategy.aggregate import aggregate, aggregate_bulyan, aggregate_krum
    from flwr.serverapp import strategy as fl
    from flwr.supercore.differential_privacy import compute_clip_model_update
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # as within a server app
    names = ["0", "1"]

    def record(model):
        return ArrayRecord({n: Array(np.array(a)) for n, a in zip(names, model)})

    def replies(updates, weights):
        for k, (u, w) in enumerate(zip(updates, weights)):
            ask = Message(RecordDict(), dst_node_id=k + 1, message_type="train")
            yield Message(RecordDict({"arrays": record(real(u)), "metrics": MetricRecord({"num-examples": w})}), reply_to=ask)

    def run(ours, params, s):
        prev, results = real(first), []
        for number, (updates, weights) in enumerate(rounds, 1):
            if isinstance(s, fl.FedAvgM):
                s.current_arrays = record(prev)
            s.configure_train(number, record(prev), None, None)
            arrays, _ = s.aggregate_train(number, list(replies(updates, weights)))
            model = [arrays[n].numpy() for n in names]
            results.append(flat(model))
            prev = [np.float64(np.float32(a)) for a in model]
        out.append({"strategy": ours, "params": params, "like": "flwr.serverapp " + type(s).__name__, "models": results})

    none = {"fraction_train": 0.0}  # configure_train keeps the model and asks nobody
    run("fedavg", {}, fl.FedAvg(**none))
    run("fedavgm", {}, fl.FedAvgM(**none))
    run("fedavgm", {"server_learning_rate": "0.5", "server_momentum": "0.9"}, fl.FedAvgM(server_learning_rate=0.5, server_momentum=0.9, **none))
    run("fedadam", {}, fl.FedAdam(**none))
    run("fedadam", {"eta": "0.03", "beta_1": "0.7", "beta_2": "0.95", "tau": "1e-9"}, fl.FedAdam(eta=0.03, beta_1=0.7, beta_2=0.95, tau=1e-9, **none))
    run("fedyogi", {}, fl.FedYogi(**none))
    run("fedadagrad", {}, fl.FedAdagrad(**none))
    run("fedmedian", {}, fl.FedMedian(**none))
    run("fedtrimmedavg", {}, fl.FedTrimmedAvg(**none))
    run("fedtrimmedavg", {"beta": "0.4"}, fl.FedTrimmedAvg(beta=0.4, **none))
    run("krum", {"num_malicious_clients": "2"}, fl.Krum(num_malicious_nodes=2, **none))
    run("multikrum", {"num_malicious_clients": "2", "num_clients_to_keep": "4", "weighting": "examples"},
        fl.MultiKrum(num_malicious_nodes=2, num_nodes_to_select=4, **none))

    def each(ours, params, like, rule):
        prev, results = real(first), []
        for updates, weights in rounds:
            model = rule([(real(u), w) for u, w in zip(updates, weights)], prev)
            results.append(flat(model))
            prev = [np.float64(np.float32(a)) for a in model]
        out.append({"strategy": ours, "params": params, "like": like, "models": results})

    each("krum", {"num_malicious_clients": "1", "num_clients_to_keep": "5", "weighting": "examples"}, "flwr.server aggregate_krum",
         lambda results, _: aggregate_krum(results, 1, 5))
    each("bulyan", {"num_malicious_clients": "2"}, "flwr.server aggregate_bulyan",
         lambda results, _: aggregate_bulyan(results, 2, aggregate_krum, to_keep=0))

    def clipped(results, prev):
        for model, _ in results:
            compute_clip_model_update(model, prev, 1.5)
        return aggregate(results)

    each("fedavg", {"clip_norm": "1.5"}, "flwr compute_clip_model_update", clipped)


def fedn(out, first, rounds):
    from fedn.network.combiner.aggregators import fedavg, fedopt
    from fedn.utils.helpers.plugins.numpyhelper import Helper
    from fedn.utils.parameters import Parameters

    class Update:
        def __init__(self, k):
            self.model_update_id, self.model_id = str(k), "prev"

    class Queue(list):
        def empty(self):
            return not self

    class Updates:  # in the place of the combiner's update handler
        def __init__(self):
            self.model_updates = Queue()

        def fill(self, prev, updates, weights):
            self.prev, self.updates, self.weights = prev, updates, weights
            self.model_updates.extend(Update(k) for k in range(len(updates)))

        def next_model_update(self):
            return self.model_updates.pop(0)

        def load_model_update(self, u, helper):
            k = int(u.model_update_id)
            return real(self.updates[k]), {"num_examples": self.weights[k]}

        def load_model(self, helper, model_id):
            return self.prev

    def run(ours, params, make, parameters):
        handler = Updates()
        aggregator = make(handler)
        prev, results = real(first), []
        for updates, weights in rounds:
            handler.fill(prev, updates, weights)
            more = {"parameters": Parameters(parameters)} if parameters else {}
            model, _ = aggregator.combine_models(helper=Helper(), delete_models=False, **more)
            results.append(flat(model))
            prev = [np.float64(np.float32(a)) for a in model]
        like = "fedn " + aggregator.name + (" " + parameters["serveropt"] if parameters else "")
        out.append({"strategy": ours, "params": params, "like": like, "models": results})

    run("fedavg", {}, fedavg.Aggregator, None)
    ours = {"eta": "0.001", "beta_1": "0.9", "tau": "0.0001", "initial_v": "1e-8"}
    run("fedadam", ours | {"beta_2": "0.99", "bias_correction": "false"}, fedopt.Aggregator, {"serveropt": "adam"})
    run("fedyogi", ours | {"beta_2": "0.99"}, fedopt.Aggregator, {"serveropt": "yogi"})
    run("fedadagrad", ours, fedopt.Aggregator, {"serveropt": "adagrad"})


def main():
    logging.disable(logging.CRITICAL)
    first, rounds = inputs()
    out = []
    {"flwr": flower, "fedn": fedn}[sys.argv[1]](out, first, rounds)
    from importlib.metadata import version

    json.dump({
        "package": sys.argv[1] + " " + version(sys.argv[1]),
        "unit": UNIT,
        "first": flat(first),
        "rounds": [{"weights": w, "updates": [flat(u) for u in us]} for us, w in rounds],
        "results": out,
    }, sys.stdout, separators=(",", ":"))
    print()


main()
