"""Reach and hold the hosts of a lab: over what, a session with all, cables, methods, the lease."""
