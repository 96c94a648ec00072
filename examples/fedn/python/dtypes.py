"""Has a function service aggregate models of one dtype with FEDn's own code, and looks at every value of what comes back.

    dtypes.py --service 127.0.0.1:12081 --params 1000000 --dtype float16 --examples 100,2400 --rounds 2

What FEDn's combiner does: its client of the service streams the global model and the clients', and
asks for the aggregate. What its controller does then: the mean of the combiners' models, here two that are
alike, written as npz, is the next round's global model.

Each line on standard output is a JSON object, one for each round: seconds from the first model to the last byte of the aggregate, its dtype and
the next global model's, how many values are not the one nearest to the weighted mean, and how many are not in FEDn's own mean
of the same models.
"""

import argparse
import io
import json
import os
import queue
import time
from types import SimpleNamespace

import numpy as np

PIECE = 1 << 20


def model(params, dtype, seed):
    """Values whose weighted sums are exact in long double."""
    rng = np.random.default_rng(seed)
    if dtype.kind == "i":
        return rng.integers(-(1 << 40), 1 << 40, params, dtype)
    if dtype == np.float64:
        out = rng.integers(-(1 << 49), 1 << 49, params).astype(np.float64)
        out /= float(1 << 50)
        return out
    out = rng.random(params, np.float32)
    out -= np.float32(0.5)
    return out.astype(dtype, copy=False)


def packed(array):
    b = io.BytesIO()
    np.savez(b, **{"0": array})
    b.seek(0)
    return b


def wrong(got, models, weights):
    """How many values another value of the dtype would be nearer to the weighted mean than.

    A mesh keeps 63 bits behind the point of weight times value, which float64 may need more of below 2^-11.
    """
    total, n = sum(weights), 0
    kept = np.longdouble(2.0**-62 if got.dtype == np.float64 else 0)
    for at in range(0, got.size, PIECE):
        r = got[at : at + PIECE]
        pieces = [m[at : at + PIECE] for m in models]
        if r.dtype.kind == "i":
            s = sum(np.int64(w) * p for w, p in zip(weights, pieces))
            rest = 2 * np.abs(s - r * np.int64(total))
            n += int(np.count_nonzero((rest > total) | ((rest == total) & (r % 2 != 0))))
            continue
        s = sum(np.longdouble(w) * p.astype(np.longdouble) for w, p in zip(weights, pieces))
        off = np.abs(s - r.astype(np.longdouble) * total)
        for side in (-np.inf, np.inf):
            near = np.nextafter(r, r.dtype.type(side)).astype(np.longdouble)
            n += int(np.count_nonzero(~(off <= np.abs(s - near * total) + kept)))
    return n


def own(helper, models, weights):
    """FEDn's mean, as its fedavg aggregator makes it; piece by piece, which is the same."""
    n, dtype = 0, None
    for at in range(0, models[0].size, PIECE):
        pieces = [m[at : at + PIECE] for m in models]
        mean, total = [pieces[0]], weights[0]
        for p, w in zip(pieces[1:], weights[1:]):
            total += w
            mean = helper.increment_average(mean, [p], w, total)
        dtype = mean[0].dtype
        n += wrong(mean[0], pieces, weights)
    return n, dtype


class Updates:
    """The part of FEDn's UpdateHandler that its hook client reads."""

    def __init__(self, models, weights):
        self.model_updates = queue.Queue()
        for i, (m, n) in enumerate(zip(models, weights)):
            meta = json.dumps({"training_metadata": {"num_examples": n}})
            self.model_updates.put(SimpleNamespace(meta=meta, model_update_id=m, sender=SimpleNamespace(client_id=f"client{i}")))

    def next_model_update(self):
        return self.model_updates.get()

    def load_model_update_bytesIO(self, m):  # noqa: N802, FEDn's name
        return packed(m)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--service", required=True)
    p.add_argument("--params", type=int, required=True)
    p.add_argument("--dtype", type=np.dtype, required=True)
    p.add_argument("--examples", required=True)
    p.add_argument("--rounds", type=int, default=2)
    a = p.parse_args()
    os.environ["HOOK_SERVICE_HOST"] = a.service
    from fedn.common.log_config import set_log_level_from_string
    from fedn.network.combiner.hooks.hook_client import CombinerHookInterface
    from fedn.network.combiner.modelservice import serialize_model_to_BytesIO
    from fedn.utils.helpers.helpers import get_helper

    set_log_level_from_string("INFO")
    hooks, helper = CombinerHookInterface(), get_helper("numpyhelper")
    weights = [int(n) for n in a.examples.split(",")]
    end = time.time() + 60
    while not hooks.provided_functions("").get("aggregate") and time.time() < end:
        time.sleep(0.2)  # the service is starting
    current = packed(model(a.params, a.dtype, 0))
    for r in range(1, a.rounds + 1):
        models = [model(a.params, a.dtype, (r, i)) for i in range(len(weights))]
        start = time.time()
        aggregate, _ = hooks.aggregate(current, Updates(models, weights), helper, delete_models=False)
        seconds = time.time() - start
        del current
        n = wrong(aggregate[0], models, weights)
        theirs, dtype = own(helper, models, weights)
        del models
        current = serialize_model_to_BytesIO(helper.increment_average(aggregate, aggregate, 1, 2), helper)
        current.seek(0)
        print(
            json.dumps({"event": "aggregated", "round": r, "seconds": seconds, "dtype": str(aggregate[0].dtype), "values": int(aggregate[0].size),
                        "wrong": n, "own_wrong": theirs, "own_dtype": str(dtype)}),
            flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
