"""Helpers that the checks share: traffic, targets, expectations, packets, traces; one folder per family."""
