"""Connections through a gateway: what it routes, and what a middlebox makes of MPTCP."""
