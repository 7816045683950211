"""mptcp-lab: reproducible Multipath TCP labs and the suite that proves what they do."""

__version__ = "0.2.0"
