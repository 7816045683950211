"""mptcp-lab: build reproducible Multipath TCP labs, and test their behaviour with a conformance suite."""

__version__ = "0.2.0"
