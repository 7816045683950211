"""Tests of ./lab: its words, its environment, and its first commands on a fresh machine."""
