"""The doctor's rules, a module for each group of pitfalls: each has a tuple ``RULES``."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from mptcp_lab.doctor.finding import Rule


def groups() -> tuple[str, ...]:
    """Return the names of the modules that have rules, in order."""
    return tuple(
        sorted(each.name for each in pkgutil.iter_modules(__path__) if not each.name.startswith("_"))
    )


def gather() -> tuple[Rule, ...]:
    """Return the rules of all modules of this package, in the order of the modules' names."""
    return tuple(rule for name in groups() for rule in import_module(f"{__name__}.{name}").RULES)
