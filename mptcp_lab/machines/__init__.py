"""Access to a lab's hosts: SSH targets, a session with all hosts, NIC cables, MPTCP methods, the lease."""
