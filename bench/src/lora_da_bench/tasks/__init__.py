"""Tasks: how rows become examples, and how answers are scored."""
