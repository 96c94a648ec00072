"""A Flower app: MNIST's digits, learned by a small network in numpy."""
