"""The origin service: its listeners, its connections, and the greeting that clients send."""
