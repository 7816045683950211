"""Tests of result.json and its views."""
