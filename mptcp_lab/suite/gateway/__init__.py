"""Connections through a gateway: which packets it routes, and how a middlebox changes MPTCP."""
