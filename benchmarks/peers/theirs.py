"""Times FEDn's and Flower's own code on the arrays that fedmesh is given.

One process for each measurement, so that nothing of it stays in memory while
another one is measured. The last line of standard output is a JSON object.

    theirs.py versions
    theirs.py prepare DIR    writes FEDn's model files, with FEDn's own helper
    theirs.py fedn DIR       the controller's reduce and commit, a combiner's FedAvg
    theirs.py flower DIR     flwr.server.strategy.aggregate.aggregate

DIR holds update-0.safetensors and so on, and weights.json, a list of numbers of
examples.
"""

import json
import logging
import os
import platform
import sys
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np


def arrays(file):
    """The arrays of a safetensors file of float32, in memory of their own."""
    with open(file, "rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
        header.pop("__metadata__", None)
        data = np.fromfile(f, dtype=np.uint8)
    out = []
    for t in sorted(header.values(), key=lambda t: t["data_offsets"][0]):
        if t["dtype"] != "F32":
            raise SystemExit(f"theirs.py: {file} holds {t['dtype']}, only F32 is expected")
        low, high = t["data_offsets"]
        out.append(data[low:high].view("<f4").reshape(t["shape"]).copy())
    return out


def inputs(folder):
    weights = json.loads((folder / "weights.json").read_text())
    return [folder / f"update-{i}.safetensors" for i in range(len(weights))], weights


def error(model, files, weights):
    """The largest difference from the weighted mean in double precision."""
    total, means = float(sum(weights)), None
    for file, w in zip(files, weights, strict=True):
        parts = [a.astype(np.float64) * (w / total) for a in arrays(file)]
        means = parts if means is None else [np.add(m, p, out=m) for m, p in zip(means, parts, strict=True)]
    if len(model) != len(means):
        raise SystemExit(f"theirs.py: the result has {len(model)} arrays, not {len(means)}")
    return max(float(np.max(np.abs(a - m), initial=0)) for a, m in zip(model, means, strict=True))


def peak():
    """Resident memory at most, bytes; 0 where the platform does not say. The
    usage that waits and getrusage give would count the parent's before exec."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def versions():
    from importlib.metadata import version

    return {"python": platform.python_version(), **{p: version(p) for p in ("fedn", "flwr", "numpy")}}


def quiet():
    """Without its log lines FEDn is a little faster, and stderr can be read."""
    from fedn.common.log_config import logger

    logger.setLevel(logging.ERROR)


def prepare(folder):
    """Writes what combiners leave for the controller: npz as FEDn's helper writes
    it, which is deflated, and the same stored, which FEDn reads as well."""
    from fedn.utils.helpers.helpers import get_helper

    helper = get_helper("numpyhelper")
    files, _ = inputs(folder)
    for i, file in enumerate(files):
        a = arrays(file)
        helper.save(a, str(folder / f"deflated-{i}.npz"))
        np.savez(folder / f"stored-{i}.npz", **{str(k): x for k, x in enumerate(a)})
    return {}


class Repository:
    """FEDn's object storage, as files beside the others: no network, and what is
    uploaded is linked, which costs nothing."""

    def __init__(self, folder):
        self.folder = folder

    def get_model(self, model_id):
        return (self.folder / model_id).read_bytes()

    def set_model(self, model, is_file=True):
        assert is_file
        model_id = str(uuid.uuid4())
        os.link(model, self.folder / model_id)
        return model_id

    def delete_model(self, model_id):
        (self.folder / model_id).unlink()


class Database:
    """The three of its stores that reduce and commit ask, answering at once."""

    def __init__(self):
        self.package_store = SimpleNamespace(get_active=lambda: SimpleNamespace(helper="numpyhelper"))
        self.model_store = SimpleNamespace(list=lambda *_, **__: [], add=lambda model: model)
        self.session_store = SimpleNamespace(get=lambda _: SimpleNamespace(seed_model_id="seed"))


def partials(folder, kind, n):
    """Puts the combiners' models into the repository, as links."""
    out = []
    for i in range(n):
        model_id = str(uuid.uuid4())
        os.link(folder / f"{kind}-{i}.npz", folder / model_id)
        out.append({"name": f"combiner-{i}", "model_id": model_id})
    return out


def fedn(folder):
    from fedn.network.combiner.aggregators.aggregatorbase import get_aggregator
    from fedn.network.combiner.modelservice import ModelService
    from fedn.network.combiner.updatehandler import UpdateHandler
    from fedn.network.controller.control import Control
    from fedn.network.grpc import fedn_pb2
    from fedn.utils.helpers.helpers import get_helper

    files, weights = inputs(folder)
    repository = Repository(folder)
    control = Control("network", repository, Database())
    out = {}

    def reduce(kind):
        combiners = partials(folder, kind, len(files))
        began = time.perf_counter()
        model, _ = control.reduce(combiners)
        return model, time.perf_counter() - began

    reduce("stored")  # to warm up; not counted
    _, out["reduce_stored"] = reduce("stored")
    model, out["reduce"] = reduce("deflated")
    began = time.perf_counter()
    model_id = control.commit(model=model, session_id="session")
    out["commit"] = time.perf_counter() - began
    repository.delete_model(model_id)
    out["peak"] = peak()  # before the check, which needs more
    out["error"] = error(model, files, [1] * len(files))  # the controller does not weight
    del model

    os.environ["FEDN_MODEL_DIR"] = str(folder / "combiner")
    updates = UpdateHandler(modelservice=ModelService())
    storage = updates.modelservice.temp_model_storage
    for i, w in enumerate(weights):
        model_id = f"update-{i}"
        os.link(folder / f"deflated-{i}.npz", folder / "combiner" / model_id)
        storage.models[model_id] = {}
        storage.set_model_metadata(model_id, fedn_pb2.ModelStatus.OK)
        meta = {"config": "{}", "training_metadata": {"num_examples": w}}
        updates.on_model_update(fedn_pb2.ModelUpdate(model_update_id=model_id, meta=json.dumps(meta)))
    aggregator = get_aggregator("fedavg", updates)
    began = time.perf_counter()
    model, data = aggregator.combine_models(helper=get_helper("numpyhelper"), delete_models=True)
    out["combine"] = time.perf_counter() - began
    if data["nr_aggregated_models"] != len(files):
        raise SystemExit(f"theirs.py: FEDn's combiner took {data['nr_aggregated_models']} models of {len(files)}")
    out["error"] = max(out["error"], error(model, files, weights))
    return out


def flower(folder):
    from flwr.server.strategy.aggregate import aggregate

    files, weights = inputs(folder)
    results = [(arrays(f), w) for f, w in zip(files, weights, strict=True)]
    out = {}
    for call in ("first", "again"):  # the second finds memory that the first has touched
        began = time.perf_counter()
        model = aggregate(results)
        out[call] = time.perf_counter() - began
    out["peak"] = peak()  # before the check, which needs more
    out["error"] = error(model, files, weights)
    return out


def main():
    what = sys.argv[1]
    if what in ("prepare", "fedn"):
        quiet()
    out = versions() if what == "versions" else {"prepare": prepare, "fedn": fedn, "flower": flower}[what](Path(sys.argv[2]))
    print(json.dumps(out))


if __name__ == "__main__":
    main()
