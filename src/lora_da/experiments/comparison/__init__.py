"""Comparisons of initialisations that a sceptic can check."""
