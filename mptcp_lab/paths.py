"""Where the parts of a checkout lie."""

from __future__ import annotations

from pathlib import Path

#: The checkout: playbooks, roles, inventories and .lab/ lie below it.
ROOT = Path(__file__).resolve().parents[1]
#: The program that runs on hosts: a folder that python3 runs as it is, or as a zip.
AGENT = Path(__file__).with_name("agent")
