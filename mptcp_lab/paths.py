"""Define the paths of the parts of a checkout."""

from __future__ import annotations

from pathlib import Path

#: The checkout, which contains playbooks, roles, inventories and .lab/.
ROOT = Path(__file__).resolve().parents[1]
#: The agent, which runs on hosts: a folder that python3 runs directly or as a zip file.
AGENT = Path(__file__).with_name("agent")
