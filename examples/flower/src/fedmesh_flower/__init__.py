"""A Flower strategy that makes a ServerApp a combiner of a fedmesh.

    mesh = fedmesh.Mesh(["a:8080", "b:8080", "c:8080"])
    strategy = MeshStrategy(FedAvg(), mesh, "digits", combiner="hospital-a", open={"target_combiners": 2})
    result = strategy.start(grid=grid, initial_arrays=arrays, num_rounds=10)

Several Flower servers that do this train one model: each round every one of them has the mean of all their SuperNodes' models.
"""

from ._advice import MeshRefused
from ._strategy import MeshStrategy

__all__ = ["MeshRefused", "MeshStrategy"]
