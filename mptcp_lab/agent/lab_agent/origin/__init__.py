"""The origin service: what it listens on, and what it does with a connection."""
