"""Tests of the pytest plugin, verdicts and the catalogue."""
