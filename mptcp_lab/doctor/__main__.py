"""``python -m mptcp_lab.doctor``: print the table of causes that docs/troubleshooting.md shows."""

from __future__ import annotations

from mptcp_lab.doctor.counters import RULES


def table() -> str:
    """Return the rules as a Markdown table, in the order in which they are tried."""
    rows = (f"| {r.fingerprint} | {r.diagnosis.cause} | {r.diagnosis.advice} |" for r in RULES)
    lines = ["| fingerprint | cause | what to do |", "| --- | --- | --- |", *rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
