"""Runs the combiners of one FEDn network, and the storage that they share with its controller.

    network.py --name north --storage 9100 --combiners n1=9001=12081,n2=9002=12082 --seed seed.npz --dir DIR

Real FEDn 0.33: its Combiner with gRPC server and RoundHandler, with storage in memory.
Each combiner is NAME=PORT=HOOKS, where HOOKS is the port of its function service:
fedmesh's gateway, FEDn's own, or nobody's. control.py runs the loop above them and finds
the storage at its port.

Each line on standard output is a JSON object: what happened.
"""

import argparse
import json
import os
import threading
from pathlib import Path

import memory


def say(**what):
    print(json.dumps(what), flush=True)


def combiner(spec, repository, db, folder):
    name, port, hooks = spec.split("=")
    # A combiner's parts read these when they are made.
    os.environ["HOOK_SERVICE_HOST"] = f"127.0.0.1:{hooks}"
    os.environ["FEDN_MODEL_DIR"] = str(folder / f"{name}-models")
    from fedn.network.combiner.combiner import Combiner

    return Combiner(
        {
            "name": name, "host": "127.0.0.1", "port": int(port), "ip": "127.0.0.1", "fqdn": None, "parent": "localhost",
            "secure": False, "verify": False, "cert_path": None, "key_path": None, "max_clients": 30, "network_id": "network",
            "discover_host": "", "discover_port": 0, "token": "", "verbosity": "INFO",
        },
        repository, db,
    )


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--name", required=True)
    p.add_argument("--storage", type=int, required=True)
    p.add_argument("--combiners", required=True)
    p.add_argument("--seed", required=True)
    p.add_argument("--dir", type=Path, required=True)
    a = p.parse_args()

    from fedn.network.storage.statestore.stores.dto import ModelDTO

    repository, db = memory.Repository(), memory.Database()
    seed = ModelDTO()
    seed.model_id = repository.set_model(a.seed)
    seed.session_id = "session"
    db.model_store.add(seed)
    combiners = [combiner(spec, repository, db, a.dir) for spec in a.combiners.split(",")]
    threading.Thread(target=memory.serve, args=(repository, db, a.storage), daemon=True).start()
    say(event="listening", network=a.name, combiners=[c.id for c in combiners])
    threading.Event().wait()


if __name__ == "__main__":
    main()
