"""Methods: one file for each initialisation, and the registry."""
