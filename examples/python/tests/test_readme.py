"""The README's example, as it stands there, and what else it promises."""

from __future__ import annotations

import json
import pathlib
import re

import pytest
from conftest import Cluster

import fedmesh

README = (pathlib.Path(__file__).parents[1] / "README.md").read_text()


def test_the_fifteen_lines_run(cluster: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    found = re.search(r"```python\n(.*?)```", README, re.S)
    assert found
    lines = [line for line in found[1].splitlines() if line and not line.startswith("import")]
    assert len(lines) <= 15
    code = found[1]
    assert "peers = " in code
    code = re.sub(r"peers = .*", f"peers = {json.dumps(cluster.urls)}", code, count=1)
    exec(compile(code, "README.md", "exec"), {})
    out = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in out[:3]] == ["round 1", "round 2", "round 3"] and out[3] == "{'loss': 0.5}"


def test_every_exception_is_in_the_table() -> None:
    table = README[README.index("## Exceptions") : README.index("## What is not there")]
    for name in fedmesh.__all__:
        value = getattr(fedmesh, name)
        if isinstance(value, type) and issubclass(value, fedmesh.FedmeshError) and name != "Unreachable":
            assert f"`{name}`" in table or name == "FedmeshError", name
