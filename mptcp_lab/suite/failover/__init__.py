"""Failover of a live stream: how a path is lost, what goes on over the others, how long it pauses."""
