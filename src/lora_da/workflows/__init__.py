"""Workflows: what each command does, from names of models and data to files."""
