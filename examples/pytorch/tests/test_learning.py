"""Digits, clients and their mean, without a mesh."""

from __future__ import annotations

import gzip
import pathlib

import numpy as np
import pytest
import torch

from federation.client import Client, Mean
from federation.digits import Digits, NoDigits, read
from federation.net import Net, accuracy, steady


def idx(shape: "tuple[int, ...]", data: bytes) -> bytes:
    return np.array([0x800 + len(shape), *shape], ">u4").tobytes() + data


def written(folder: pathlib.Path, images: bytes, labels: bytes) -> pathlib.Path:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "train-labels-idx1-ubyte").write_bytes(labels)  # as it is when somebody has unpacked it
    return folder


IMAGES, LABELS = idx((2, 28, 28), bytes(range(196)) * 8), idx((2,), bytes([7, 3]))


def test_reads_mnist(tmp_path: pathlib.Path) -> None:
    d = read(written(tmp_path, IMAGES, LABELS), "train")
    assert len(d) == 2 and d.labels.tolist() == [7, 3] and d.images[1, 0, :3].tolist() == [0, 1, 2]
    images, labels = d.tensors(np.array([1]))
    assert images.shape == (1, 1, 28, 28) and images.dtype == torch.float32 and labels.tolist() == [3]
    assert images[0, 0, 6, 27].item() == pytest.approx((195 / 255 - 0.1307) / 0.3081)


@pytest.mark.parametrize(
    "images,labels",
    [
        (IMAGES[:-1], LABELS),
        (IMAGES[:9], LABELS),
        (b"", LABELS),
        (LABELS, LABELS),
        (IMAGES, idx((3,), bytes(3))),
        (IMAGES + b"x", LABELS),
        (IMAGES, idx((2,), bytes([1, 10]))),
        (idx((0, 28, 28), b""), idx((0,), b"")),
    ],
)
def test_files_that_are_not_mnist(tmp_path: pathlib.Path, images: bytes, labels: bytes) -> None:
    with pytest.raises(NoDigits, match=str(tmp_path)):
        read(written(tmp_path, images, labels), "train")


def test_no_files(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NoDigits, match="--data"):
        read(tmp_path, "train")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(b"no gzip")
    with pytest.raises(NoDigits, match="--data"):
        read(tmp_path, "train")


def test_the_mean_is_weighted() -> None:
    mean = Mean()
    mean.add({"w": torch.tensor([1.0, 4.0])}, 1, 2.0)
    mean.add({"w": torch.tensor([5.0, 0.0])}, 3, 6.0)
    assert mean.state_dict()["w"].tolist() == [4.0, 1.0] and mean.loss == 5.0 and mean.examples == 4
    assert mean.state_dict()["w"].dtype == torch.float32


def test_training_learns_and_can_be_repeated() -> None:
    """Stripes that tell one label from the other."""
    labels = np.tile(np.array([0, 1], np.uint8), 128)
    images = np.zeros((256, 28, 28), np.uint8)
    images[labels == 0, ::4] = 255
    images[labels == 1, :, ::4] = 255
    tensors = Digits(images, labels).tensors()

    def trained(number: int, round: int) -> Net:
        steady(1)
        net = Net()
        assert accuracy(net, *tensors) <= 0.5
        assert Client(number, *tensors, seed=1).train(net, round) > 0
        return net

    first, again, other = trained(1, 0), trained(1, 0), trained(1, 1)
    assert accuracy(first, *tensors) == 1.0
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters())), "each round has its own order"
