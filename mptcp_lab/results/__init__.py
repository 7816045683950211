"""What a run comes to: verdicts, the result document and its schema, the description of the lab."""
