"""What jobs are given: dataclasses whose fields are the options of commands."""
