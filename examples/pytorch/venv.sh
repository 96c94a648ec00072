#!/bin/sh
# Makes .venv, with the PyTorch that the machine has, or else the package index's. Usage: ./venv.sh [PYTHON]
set -eu
cd "$(dirname "$0")"
python=${1:-python3}

made_by=$("$python" -c 'import sys; print(sys.executable, sys.version)')
if [ "$(cat .venv/made-by 2>/dev/null)" != "$made_by" ]; then
	"$python" -m venv --clear --system-site-packages .venv
	echo "$made_by" >.venv/made-by
fi
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

if ! .venv/bin/python -W ignore -c 'import torch' 2>/dev/null; then
	echo "No PyTorch for $python: installing it from the package index. On Linux it comes with CUDA, which is several gigabytes."
	pip install -q torch
fi

# numpy must go with the PyTorch that is there: not another than the machine's, and not 2 before PyTorch 2.3.
.venv/bin/python -W ignore >.venv/constraints <<'PYTHON'
import importlib.metadata as installed
import re
import torch

old = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) < (2, 3)
try:
    numpy = installed.version("numpy")
except installed.PackageNotFoundError:
    numpy = ""
if old and not numpy.startswith("1."):
    print("numpy<2")
elif numpy:
    print(f"numpy=={numpy}")
PYTHON
pip install -q --constraint .venv/constraints '../python[test]'
