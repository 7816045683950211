"""Connections through a proxy: its legs, engines, client addresses, balancing and counts."""
