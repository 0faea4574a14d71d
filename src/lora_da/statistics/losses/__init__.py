"""Losses: the loss of each example by itself, in nats."""
