"""The pipeline: all layers of a model, within the memory there is, by one process or several."""
