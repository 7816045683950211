"""Labs on this machine: hosts in containers or virtual machines, each with systemd and sshd, and a switch.

`python -m mptcp_lab.labs up|down|status` is the command; docs/dev/architecture.md describes the design.
"""
