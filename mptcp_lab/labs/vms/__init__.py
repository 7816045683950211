"""Hosts in QEMU virtual machines, each with its own kernel, on the same switch as containers.

`mptcp_lab.labs.lifecycle` brings them up and takes them down like containers; see docs/vm.md.
"""
