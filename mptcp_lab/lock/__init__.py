"""Write, read and compare the lock of a lab: versions, files and settings of its hosts.

The lock is `lab.lock.yml` beside the inventory. `python -m mptcp_lab.lock write` writes it, lab.yml installs
the versions in it or refuses, and check STATE-5 reports drift.
"""

from mptcp_lab.lock.compare import Difference, differences, kernel_differences
from mptcp_lab.lock.document import FORMAT, NAME, Host, Lock, LockError, dump, find_lock_file, parse, read
from mptcp_lab.lock.rendered import expected_files, papers

__all__ = [
    "FORMAT",
    "NAME",
    "Difference",
    "Host",
    "Lock",
    "LockError",
    "differences",
    "dump",
    "expected_files",
    "find_lock_file",
    "kernel_differences",
    "papers",
    "parse",
    "read",
]
