"""Diagnosis: what the readings of a host mean."""
