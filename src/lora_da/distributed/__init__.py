"""Several processes: each reads its share of the examples and solves its share of the layers; all end up the same."""
