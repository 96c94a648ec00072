from typing import Dict, List

import numpy as np


class ServerFunctions(ServerFunctionsBase):  # noqa: F821, FEDn runs this where it is known
    """The weighted mean, one client at a time: the way that FEDn's documentation calls memory secure."""

    def __init__(self) -> None:
        self.sum, self.total = None, 0

    def incremental_aggregate(self, client_id: str, model: List[np.ndarray], client_metadata: Dict, previous_global: List[np.ndarray]):
        n = client_metadata["num_examples"]
        if self.sum is None:
            self.sum = [np.zeros(a.shape, np.float64) for a in model]
        for s, a in zip(self.sum, model):
            s += np.float64(n) * a
        self.total += n

    def get_incremental_aggregate_model(self) -> List[np.ndarray]:
        mean = [(s / self.total).astype(np.float32) for s in self.sum]
        self.sum, self.total = None, 0
        return mean
