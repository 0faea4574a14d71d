"""The experiment: its description, the schedule of its runs, and their records."""
