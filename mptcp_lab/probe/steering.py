"""The userspace path manager: control announcements and subflows of one connection by netlink."""

from __future__ import annotations

from typing import Any

from mptcp_lab.probe.client import ProbeClient
from mptcp_lab.probe.facts import Subflow


class Steering:
    """Commands of the userspace path manager for one connection.

    The connection is identified by its local token (``Stream.facts().info["token"]``, or the event
    "created"), and must have been created under net.mptcp.path_manager=userspace (pm_type=1 before Linux
    6.15). Every command raises `ProbeError` with the kernel's errno if the kernel refuses it.
    Source: Documentation/netlink/specs/mptcp_pm.yaml, net/mptcp/pm_userspace.c.
    """

    def __init__(self, probe: ProbeClient, token: int) -> None:
        self._probe = probe
        self._token = token

    def _order(self, command: str, **about: Any) -> None:
        self._probe.order("steer", command=command, token=self._token, **about)

    def announce(self, address: str, identity: int, port: int = 0) -> None:
        """Announce an address to the peer (ADD_ADDR) with an address id from 1 to 255."""
        self._order("announce", local=_end(address, port, id=identity, flags=["signal"]))

    def remove(self, identity: int) -> None:
        """Withdraw an announced address from the peer (REMOVE_ADDR)."""
        self._order("remove", identity=identity)

    def create_subflow(
        self, local: str, identity: int, remote: str, port: int, *, device: str = "", backup: bool = False
    ) -> None:
        """Join from a local address (MP_JOIN) to an address and port, announced or not.

        Returns after the SYN was sent; the stream's facts or an `EventWatch` show whether the join succeeded.
        """
        flags = ["subflow", "backup"] if backup else ["subflow"]
        mine = _end(local, id=identity, flags=flags, device=device)
        self._order("create", local=mine, remote=_end(remote, port))

    def destroy_subflow(self, subflow: Subflow) -> None:
        """Close a subflow; the kernel sends REMOVE_ADDR if it was the last subflow on its address."""
        local, remote = _ends(subflow)
        self._order("destroy", local=local, remote=remote)

    def set_backup(self, subflow: Subflow, backup: bool) -> None:
        """Change the priority of a subflow that this host created (MP_PRIO)."""
        local, remote = _ends(subflow)
        self._order("priority", local={**local, "flags": ["backup"] if backup else []}, remote=remote)


def _end(address: str, port: int = 0, **more: Any) -> dict[str, Any]:
    return {"address": address, "port": port, **more}


def _ends(subflow: Subflow) -> tuple[dict[str, Any], dict[str, Any]]:
    return _end(subflow.local, subflow.lport), _end(subflow.remote, subflow.rport)
