"""Connections that forwarders or applications split and join again."""
