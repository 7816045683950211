"""Find the MPTCP settings of the inventory that a host's kernel lacks, and that the playbooks left out."""

from __future__ import annotations

from collections.abc import Mapping

from mptcp_lab.inventory.model import Host

LEGACY = "net.mptcp.mptcp_enabled"  # only v0.9x kernels have it, and their settings differ


def settings_left_out(host: Host, sysctls: Mapping[str, str]) -> list[str]:
    """Return the settings below net.mptcp that the inventory asks for and a host's kernel does not have."""
    wanted = host.variables.get("lab_mptcp_sysctls") or {}
    if not host.mptcp or LEGACY in sysctls or not isinstance(wanted, Mapping):
        return []
    return [name for key in sorted(wanted) if (name := f"net.mptcp.{key}") not in sysctls]
