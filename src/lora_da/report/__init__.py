"""The report: what an initialisation did, in words, tables, notices and pictures."""
