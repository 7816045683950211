"""Judge times and rates where the machine is fast enough for it; on a slow machine they judge nothing.

An emulated machine, or one that gets a small share of a processor, has a factor above 1 by which all waits
are multiplied (mptcp_lab/patience.py). How late a program acts there, and how much it carries per second,
shows the speed of the machine and not that of the program.
"""

from __future__ import annotations

from mptcp_lab.errors import Unsupported
from mptcp_lab.patience import factor


def check_time(holds: bool, otherwise: str) -> None:
    """Check a bound of a time, of a rate, or of what follows from one.

    Raises:
        AssertionError: it does not hold; ``otherwise`` is the message.
        Unsupported: it does not hold, on a machine whose waits are multiplied.
    """
    if holds:
        return
    if factor() > 1.0:
        raise Unsupported("time", f"this machine is {factor():g} times slower than a normal one: {otherwise}")
    raise AssertionError(otherwise)
