"""Hosts with kernels of their own: QEMU virtual machines on the embedded lab's switch.

`mptcp_lab.labs.lifecycle` brings them up and down like containers; see docs/vm.md.
"""
