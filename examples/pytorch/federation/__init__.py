"""MNIST by federated learning with PyTorch: clients train, combiners average, a fedmesh makes of it one model for all.

combiner.py is what there is to learn here. python -m federation runs all of it.
"""
