"""Statistics: what each layer sees, summed over one pass. Knows no linear algebra and no adapters."""
