"""Render the rules as tables for docs/troubleshooting.md, one for each group, in the groups' order. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from importlib import import_module

from mptcp_lab.doctor import rules
from mptcp_lab.doctor.finding import Rule

WIDTH = 100
BEGIN = "<!-- rules: `python -m mptcp_lab.doctor` prints what follows -->"
END = "<!-- end of rules -->"


def render() -> str:
    """Return the tables of all groups in Markdown."""
    return "\n".join(_render_group(name) for name in rules.groups())


def _render_group(name: str) -> str:
    module = import_module(f"{rules.__name__}.{name}")
    summary = (module.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()
    return f"### {name.replace('_', ' ').capitalize()}\n{_wrap(summary)}\n\n{_table(module.RULES)}"


def _wrap(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, break_long_words=False, break_on_hyphens=False))


def _table(found: Iterable[Rule]) -> str:
    lines = ["| finding | what shows it | what to do |", "| --- | --- | --- |"]
    lines += [f"| `{each.name}` | {each.pitfall} | {each.advice} |" for each in found]
    return "\n".join(lines) + "\n"


def replace_rules(page: str) -> str:
    """Return a page with the tables between `BEGIN` and `END` as the rules have them."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{render()}\n{END}{after}"
