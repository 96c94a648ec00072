"""The stage of the example: two Flower federations, three peers, and what happens to them."""
