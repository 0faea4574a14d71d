"""Loading: models and data for the commands."""
