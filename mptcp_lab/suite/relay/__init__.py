"""Connections of plain clients to plain servers through two proxies that speak MPTCP with each other."""
