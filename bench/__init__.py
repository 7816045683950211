"""Benchmarks: each prints a table and writes JSON. Figures are not tests; targets stand beside them."""
