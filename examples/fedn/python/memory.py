"""FEDn's object storage and database, kept in memory.

FEDn takes both as arguments: its own need S3 and MongoDB. What they are asked for
here is what a Combiner and a Control ask for.
"""

import io
import threading
import uuid
from multiprocessing.managers import BaseManager
from types import SimpleNamespace


class Repository:
    """Models by id. The combiners and the controller of one network share it."""

    prediction_bucket = "predictions"

    def __init__(self):
        self._models = {}
        self._lock = threading.Lock()

    def get_model(self, model_id):
        with self._lock:
            return self._models[model_id]

    def get_model_stream(self, model_id):
        return io.BytesIO(self.get_model(model_id))

    def set_model(self, model, is_file=True):
        if is_file:
            with open(model, "rb") as f:
                model = f.read()
        model_id = str(uuid.uuid4())
        with self._lock:
            self._models[model_id] = bytes(model)
        return model_id

    def delete_model(self, model_id):
        with self._lock:
            del self._models[model_id]


class Store:
    """One table: objects by the attribute that is their key."""

    def __init__(self, key):
        self._key = key
        self._rows = {}
        self._lock = threading.RLock()

    def add(self, row):
        with self._lock:
            if getattr(row, self._key, None) is None:
                setattr(row, self._key, str(uuid.uuid4()))
            self._rows[getattr(row, self._key)] = row
            return row

    def update(self, row):
        return self.add(row)

    def get(self, key):
        with self._lock:
            return self._rows.get(key)

    def get_by_name(self, name):
        return next(iter(self.list(name=name)), None)

    def list(self, limit=0, skip=0, sort_key=None, sort_order=None, **where):
        with self._lock:
            rows = [*self._rows.values()]
        return [r for r in rows if all(getattr(r, k, None) == v for k, v in where.items())]

    def count(self, **where):
        return len(self.list(**where))


class ModelStore(Store):
    """The chain of global models, the newest first."""

    def list(self, limit=0, skip=0, sort_key=None, sort_order=None, **where):
        rows = super().list(**where)[::-1]
        return rows[:limit] if limit else rows

    def get_active(self):
        return self.list(1)[0].model_id


class RoundStore(Store):
    def get_latest_round_id(self):
        return max((int(r.round_id) for r in self.list()), default=0)


class Database:
    """All that FEDn's DatabaseConnection holds."""

    def __init__(self):
        self.client_store = Store("client_id")
        self.combiner_store = Store("name")
        self.model_store = ModelStore("model_id")
        self.round_store = RoundStore("round_id")
        self.run_store = Store("run_id")
        self.session_store = Store("session_id")
        self.package_store = SimpleNamespace(get_active=lambda: SimpleNamespace(helper="numpyhelper"))
        for name in ("status", "validation", "prediction", "metric", "attribute", "telemetry"):
            setattr(self, name + "_store", SimpleNamespace(add=lambda row: row))


STORES = ("client", "combiner", "model", "round", "run", "session")


class _Manager(BaseManager):
    """Serves the storage of one network to its controller, another process on this machine."""


def serve(repository, db, port):
    _Manager.register("repository", callable=lambda: repository)
    for name in STORES:
        _Manager.register(name + "_store", callable=lambda name=name: getattr(db, name + "_store"))
    _Manager(("127.0.0.1", port), authkey=b"fedn").get_server().serve_forever()


def connect(port):
    for name in STORES:
        _Manager.register(name + "_store")
    _Manager.register("repository")
    m = _Manager(("127.0.0.1", port), authkey=b"fedn")
    m.connect()
    db = Database()
    for name in STORES:
        setattr(db, name + "_store", getattr(m, name + "_store")())
    return m.repository(), db
