"""Analysis: what the records of a comparison show, with intervals."""
