"""Faults: before one is applied, a file on the host records how to undo it."""
