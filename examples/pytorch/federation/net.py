"""The network and how well it does."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Net(nn.Module):
    """56,714 parameters. No batch normalisation: its running statistics would be those of a client's own few digits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 16, 5, stride=2)  # 28x28 to 12x12
        self.conv2 = nn.Conv2d(16, 32, 3)  # to 10x10, pooled to 5x5
        self.full1 = nn.Linear(32 * 5 * 5, 64)
        self.full2 = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.conv1(x))
        x = torch.max_pool2d(torch.relu(self.conv2(x)), 2)
        x = torch.relu(self.full1(x.flatten(1)))
        return self.full2(x)


def steady(seed: int) -> None:
    """The same figures in each run on the same machine: one thread, kernels that add in one order, first weights by the seed."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(seed)


def accuracy(net: Net, images: Tensor, labels: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        right = sum(int((net(x).argmax(1) == y).sum()) for x, y in zip(images.split(500), labels.split(500)))
    return right / len(labels)
