"""Batches: which examples are read, what the model is called with, and which rows of a layer's input are tokens."""
