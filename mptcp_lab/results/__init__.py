"""The outcome of a run: verdicts, the result document and its schema, the description of the lab."""
