"""Hooks: what reaches a layer, seen while the model runs."""
