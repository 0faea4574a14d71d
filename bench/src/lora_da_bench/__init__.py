"""Comparisons of LoRA initialisations that a sceptic can check."""
