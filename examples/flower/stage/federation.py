"""A Flower federation: a SuperLink and its SuperNodes, processes of the real flwr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from .data import Node
from .processes import Crew, free_port, listens, until

BIN = Path(sys.executable).parent
APP = Path(__file__).resolve().parents[1] / "app"


def environment(home: Path) -> dict[str, str]:
    """flwr's own files in a folder of this run, no telemetry, one thread for each process."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("FLWR_") and not k.lower().endswith("_proxy")}
    env |= {"FLWR_HOME": str(home), "FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    env["PATH"] = f"{BIN}{os.pathsep}{env.get('PATH', '')}"  # the SuperLink starts flower-superexec
    env["FLWR_SUPEREXEC_TASK_POLL_INTERVAL"] = "0.2"  # a second is Flower's own
    env["PYTHONDONTWRITEBYTECODE"] = "1"
    return env


class Federation:
    def __init__(self, crew: Crew, name: str, nodes: tuple[Node, ...], data: Path, seed: int) -> None:
        self.name, self.nodes = name, nodes
        self._crew, self._data, self._seed = crew, data, seed
        self.port = free_port()
        link: list[str | Path] = [BIN / "flower-superlink", "--insecure", "--disable-runtime-dependency-installation"]
        crew.start(f"{name}-superlink", [*link, "--host", "127.0.0.1", "--port", str(self.port)])

    def ready(self) -> None:
        """Wait for the SuperLink, then start the SuperNodes."""

        def up() -> bool:
            self._crew.check(f"{self.name}-superlink")
            return listens(self.port)

        until(up, f"{self.name}'s SuperLink does not listen")
        for i, node in enumerate(self.nodes):
            told = f'name="{node.name}" data="{self._data / node.name}.npz" seed={self._seed * 1000 + 100 * i}'
            command: list[str | Path] = [BIN / "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{self.port}"]
            self._crew.start(f"{self.name}-{node.name}", [*command, "--host", "127.0.0.1", "--port", str(free_port()), "--node-config", told])

    def submit(self, run: str, config: Mapping[str, str | int]) -> None:
        """Have the SuperLink run the app. flwr stays until it ends; its log is the ServerApp's."""
        values = " ".join(f"{k}={json.dumps(v)}" for k, v in config.items())
        self._crew.start(f"{self.name}-{run}", [BIN / "flwr", "run", APP, self.name, "--run-config", values, "--stream"])

    def kill(self) -> list[str]:
        """SIGKILL to the SuperLink and all that runs below it, the ServerApp among them."""
        return self._crew.kill(f"{self.name}-superlink")


def connections(home: Path, federations: list[Federation]) -> None:
    """What flwr run reads to find the SuperLinks."""
    lines = [f'[superlink.{f.name}]\naddress = "127.0.0.1:{f.port}"\ninsecure = true\n' for f in federations]
    (home / "config.toml").write_text(f'[superlink]\ndefault = "{federations[0].name}"\n\n' + "\n".join(lines))
