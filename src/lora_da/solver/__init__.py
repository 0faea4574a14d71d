"""The solver: pure functions of tensors. Knows no model, no file and no neural network."""
