"""What the kernel says and is told: netlink, path manager, facts of sockets and of the host."""
