"""Failover of a live stream: how a path is lost, how other paths take over, how long the stream pauses."""
