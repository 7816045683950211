"""The interface to the kernel: netlink, path manager, events, facts of sockets and of the host."""
