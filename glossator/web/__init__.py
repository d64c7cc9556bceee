"""Pages about the results: the report in one file."""
