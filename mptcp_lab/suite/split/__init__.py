"""Connections whose data two proxies carry: split by forwarders' subflows or by an application."""
