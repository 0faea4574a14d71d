"""Kinds of tasks: how their rows become examples, and how answers are scored."""
