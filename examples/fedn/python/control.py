"""Runs FEDn's control loop for one network, until its rounds are over or it is killed.

    control.py --name north --storage 9100 --rounds 6 --clients 2 --dir DIR

Real FEDn 0.33: its Control, which starts each round at the combiners, polls, averages what they
made and commits it. Models go to DIR: r<round>-<combiner>.npz, what a combiner made, and
r<round>-<network>.npz, what the controller made of these.

Each line on standard output is a JSON object: what happened.
"""

import argparse
import sys
import time
from pathlib import Path

import memory
from network import say


def watch(control, folder, network):
    """Has the controller leave a copy of each combiner's model, and of its own."""
    reduce, commit = control.reduce, control.commit
    state = {"round": 0}

    def reduced(combiners):
        for c in combiners:
            if c.get("model_id"):
                (folder / f"r{state['round']}-{c['name']}.npz").write_bytes(control.repository.get_model(c["model_id"]))
        return reduce(combiners)

    def committed(model=None, session_id=None, name=None):
        model_id = commit(model=model, session_id=session_id, name=name)
        (folder / f"r{state['round']}-{network}.npz").write_bytes(control.repository.get_model(model_id))
        return model_id

    control.reduce, control.commit = reduced, committed
    return state


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--name", required=True)
    p.add_argument("--storage", type=int, required=True)
    p.add_argument("--rounds", type=int, required=True)
    p.add_argument("--clients", type=int, required=True, help="at each combiner, before the first round begins")
    p.add_argument("--round-timeout", type=int, default=120)
    p.add_argument("--dir", type=Path, required=True)
    a = p.parse_args()

    from fedn.network.controller.control import Control
    from fedn.network.storage.statestore.stores.dto.session import SessionConfigDTO, SessionDTO

    repository, db = memory.connect(a.storage)
    config = SessionConfigDTO()
    config.populate_with(
        {
            "aggregator": "fedavg", "round_timeout": a.round_timeout, "buffer_size": -1, "delete_models_storage": True,
            "clients_required": a.clients, "validate": False, "helper_type": "numpyhelper", "model_id": db.model_store.get_active(),
        }
    )
    session = SessionDTO()
    session.session_id, session.name, session.session_config = "session", a.name, config
    db.session_store.add(session)

    control = Control(a.name, repository, db)
    state = watch(control, a.dir, a.name)
    while any(len(c.list_active_clients()) < a.clients for c in control.network.get_combiners()):
        time.sleep(0.2)
    say(event="clients", network=a.name)
    sys.stdin.readline()  # until somebody says go
    control.set_session_status("session", "Started")
    for c in control.network.get_combiners():
        c.set_aggregator("fedavg")
    for state["round"] in range(1, a.rounds + 1):
        r, start = state["round"], time.time()
        config.model_id = db.model_store.get_active()
        say(event="begins", network=a.name, round=r)
        try:
            model_id, data = control.round(config, str(r), "session")
            say(event="round", network=a.name, round=r, status=data.status, model=bool(model_id), seconds=round(time.time() - start, 3))
        except Exception as e:  # a round of FEDn's that breaks is a result, too
            say(event="round", network=a.name, round=r, status=f"{type(e).__name__}: {e}", model=False, seconds=round(time.time() - start, 3))
    say(event="done", network=a.name)


if __name__ == "__main__":
    main()
