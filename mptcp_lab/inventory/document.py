"""Turn a valid lab back into the document that ``ansible-inventory --list`` prints, to send it elsewhere.

`mptcp_lab.inventory.validate.lab_from` makes the same lab of it, so that no second format exists.
"""

from __future__ import annotations

from typing import Any

from mptcp_lab.inventory.model import FUNCTIONS, Lab


def document_of(lab: Lab) -> dict[str, Any]:
    """Return hosts, groups and variables of a lab as JSON."""
    hostvars = {host.name: dict(host.variables) for host in lab.hosts.values()}
    groups = {group: {"hosts": [host.name for host in lab.hosts_with(group)]} for group in FUNCTIONS}
    return {"_meta": {"hostvars": hostvars}, "all": {"hosts": list(lab.hosts)}, **groups}
