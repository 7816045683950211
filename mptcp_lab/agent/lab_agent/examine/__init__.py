"""Examine a host for the doctor: read everything that decides whether MPTCP works, and change nothing."""
