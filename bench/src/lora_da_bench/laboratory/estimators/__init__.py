"""From which statistics the span of A is taken, and what the laboratory knows of a layer."""
