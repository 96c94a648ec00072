"""A client and its training: nothing here knows of a mesh."""

from __future__ import annotations

from typing import Dict, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from .net import Net

BATCH, RATE, MOMENTUM = 32, 0.05, 0.9


class Client:
    """Some digits that only it sees."""

    def __init__(self, number: int, images: Tensor, labels: Tensor, seed: int) -> None:
        self.number = number
        self.images, self.labels = images, labels
        self.seed = seed

    @property
    def examples(self) -> int:
        return len(self.labels)

    def train(self, net: Net, round: int) -> float:
        """One pass over its digits, in an order that follows from seed, client and round. Returns the mean loss."""
        order = np.random.default_rng([self.seed, self.number, round]).permutation(self.examples)
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE, momentum=MOMENTUM)
        criterion = nn.CrossEntropyLoss()
        net.train()
        total = 0.0
        for batch in torch.from_numpy(order).split(BATCH):
            optimizer.zero_grad()
            loss = criterion(net(self.images[batch]), self.labels[batch])
            loss.backward()
            optimizer.step()
            total += loss.item() * len(batch)
        return total / self.examples


class Mean:
    """The mean of several networks and their losses, weighted by examples."""

    def __init__(self) -> None:
        self.examples = 0
        self._loss = 0.0
        self._sums: Dict[str, Tensor] = {}

    def add(self, state: Mapping[str, Tensor], examples: int, loss: float) -> None:
        for name, value in state.items():
            term = value.double() * examples  # rounded once, at the end
            self._sums[name] = self._sums[name] + term if name in self._sums else term
        self._loss += loss * examples
        self.examples += examples

    @property
    def loss(self) -> float:
        return self._loss / self.examples

    def state_dict(self) -> Dict[str, Tensor]:
        return {name: (total / self.examples).float() for name, total in self._sums.items()}
