"""Hosts in systemd-nspawn containers, from one image of Debian."""
