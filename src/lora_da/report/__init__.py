"""The report: what an initialisation did, as a table, notices and plots."""
