"""Find out why expected subflows are missing. `mptcp_lab.suite.examination` reads the hosts for it."""
