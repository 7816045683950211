"""The embedded lab: hosts with systemd and SSH of their own on one Linux machine, on networks of their own.

`python -m mptcp_lab.labs up|down|status` is the door; see docs/dev/architecture.md for how it is built.
"""
