"""Asks a function service what a FEDn combiner asks in one round, with FEDn's own client of it.

    ask.py --service 127.0.0.1:12081 --global seed.npz --clients update-0.npz,update-1.npz --examples 10,30 [--functions FILE]

The last line on standard output is a JSON object: how long it took from the first model to the last byte
of the aggregate. FILE holds FEDn server functions, for a service that needs them.
"""

import argparse
import io
import json
import os
import queue
import time
from types import SimpleNamespace


class Updates:
    """The part of FEDn's UpdateHandler that its hook client reads."""

    def __init__(self, files, examples):
        self.model_updates = queue.Queue()
        for i, (file, n) in enumerate(zip(files, examples)):
            meta = json.dumps({"training_metadata": {"num_examples": n}})
            self.model_updates.put(SimpleNamespace(meta=meta, model_update_id=file, sender=SimpleNamespace(client_id=f"client{i}")))

    def next_model_update(self):
        return self.model_updates.get()

    def load_model_update_bytesIO(self, file):  # noqa: N802, FEDn's name
        with open(file, "rb") as f:
            return io.BytesIO(f.read())


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--service", required=True)
    p.add_argument("--global", dest="model", required=True)
    p.add_argument("--clients", required=True)
    p.add_argument("--examples", required=True)
    p.add_argument("--functions")
    a = p.parse_args()
    os.environ["HOOK_SERVICE_HOST"] = a.service
    from fedn.network.combiner.hooks.hook_client import CombinerHookInterface
    from fedn.utils.helpers.helpers import get_helper

    hooks, helper = CombinerHookInterface(), get_helper("numpyhelper")
    code = ""
    if a.functions:
        with open(a.functions) as f:
            code = f.read()
    end = time.time() + 60
    while not (provided := hooks.provided_functions(code)) and time.time() < end:
        time.sleep(0.2)  # the service is starting
    if not provided.get("aggregate") and not provided.get("incremental_aggregate"):
        raise SystemExit(f"ask.py: the service at {a.service} does not aggregate: {provided}")
    with open(a.model, "rb") as f:
        model = io.BytesIO(f.read())
    updates = Updates(a.clients.split(","), [int(n) for n in a.examples.split(",")])
    start = time.time()
    aggregate, _ = hooks.aggregate(model, updates, helper, delete_models=False)
    seconds = time.time() - start
    print(json.dumps({"event": "aggregated", "seconds": seconds, "first": float(aggregate[0].ravel()[0]), "values": int(sum(x.size for x in aggregate))}), flush=True)


if __name__ == "__main__":
    main()
