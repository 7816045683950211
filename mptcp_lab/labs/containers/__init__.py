"""Hosts in systemd-nspawn containers, all from one Debian image."""
