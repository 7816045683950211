"""Faults: each writes on the host how it is undone before it is applied."""
