"""Running: one run of a comparison, from loading the model to its record."""
