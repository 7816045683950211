"""The lock of a lab, `lab.lock.yml` beside the inventory: versions, files and settings of its hosts.

`python -m mptcp_lab.lock write` records it, lab.yml installs it or refuses, and STATE-5 names what drifted.
"""

from mptcp_lab.lock.compare import Difference, differences
from mptcp_lab.lock.document import FORMAT, NAME, Host, Lock, LockError, beside, dump, parse, read
from mptcp_lab.lock.rendered import expected_files, papers

__all__ = [
    "FORMAT",
    "NAME",
    "Difference",
    "Host",
    "Lock",
    "LockError",
    "beside",
    "differences",
    "dump",
    "expected_files",
    "papers",
    "parse",
    "read",
]
