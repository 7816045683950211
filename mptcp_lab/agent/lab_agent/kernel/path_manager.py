"""Control MPTCP's path managers by generic netlink (Documentation/netlink/specs/mptcp_pm.yaml)."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
import sys

from ..basics import AgentError, Json
from .netlink import (
    NETLINK_GENERIC,
    NLA_F_NESTED,
    NLM_F_ACK,
    NLM_F_DUMP,
    Netlink,
    device_name,
    pack_attr,
    parse_attrs,
)

GENL_ID_CTRL, CTRL_CMD_GETFAMILY = 16, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_MCAST_GROUPS = 1, 2, 7
PM_ADD_ADDR, PM_DEL_ADDR, PM_GET_ADDR, PM_FLUSH_ADDRS = 1, 2, 3, 4
PM_SET_LIMITS, PM_GET_LIMITS, PM_SET_FLAGS = 5, 6, 7
PM_ANNOUNCE, PM_REMOVE, PM_SUBFLOW_CREATE, PM_SUBFLOW_DESTROY = 8, 9, 10, 11
PM_ATTR_ADDR, PM_ATTR_RCV_ADD_ADDRS, PM_ATTR_SUBFLOWS = 1, 2, 3
PM_ATTR_TOKEN, PM_ATTR_LOC_ID, PM_ATTR_ADDR_REMOTE = 4, 5, 6
ADDR_FAMILY, ADDR_ID, ADDR_ADDR4, ADDR_ADDR6, ADDR_PORT, ADDR_FLAGS, ADDR_IFINDEX = 1, 2, 3, 4, 5, 6, 7
STEERING = {
    "announce": PM_ANNOUNCE,
    "remove": PM_REMOVE,
    "create": PM_SUBFLOW_CREATE,
    "destroy": PM_SUBFLOW_DESTROY,
    "priority": PM_SET_FLAGS,
}
ENDPOINT_FLAGS = {"signal": 1, "subflow": 2, "backup": 4, "fullmesh": 8, "implicit": 16, "laminar": 32}


class PathManager:
    """A netlink connection to the path managers, in the kernel and in user space.

    It does not use ip(8), which may be older than the kernel. Raises AgentError "unsupported" if the kernel
    has no mptcp_pm family.
    """

    def __init__(self) -> None:
        self.netlink = Netlink(NETLINK_GENERIC)
        name = pack_attr(CTRL_ATTR_FAMILY_NAME, b"mptcp_pm\0")
        try:
            answer = self._generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, name)[0]
        except OSError as error:
            self.netlink.sock.close()
            raise AgentError(
                "unsupported", "this kernel has no mptcp_pm netlink family", error.errno
            ) from None
        attrs = parse_attrs(answer)
        self.family = struct.unpack("=H", attrs[CTRL_ATTR_FAMILY_ID])[0]
        self.groups = {}
        for group in parse_attrs(attrs[CTRL_ATTR_MCAST_GROUPS]).values():
            entry = parse_attrs(group)
            self.groups[entry[1].rstrip(b"\0").decode()] = struct.unpack("=I", entry[2])[0]

    def __enter__(self) -> PathManager:
        return self

    def __exit__(self, *_: object) -> None:
        self.netlink.sock.close()

    def _generic(self, family: int, command: int, attrs: bytes, flags: int = NLM_F_ACK) -> list[bytes]:
        answers = self.netlink.request(family, struct.pack("=BBH", command, 1, 0) + attrs, flags)
        return [answer[4:] for answer in answers]

    def endpoints(self) -> list[Json]:
        """Return all endpoints, sorted by id."""
        found = []
        for answer in self._generic(self.family, PM_GET_ADDR, b"", NLM_F_DUMP):
            attrs = parse_attrs(parse_attrs(answer)[PM_ATTR_ADDR])
            raw = attrs.get(ADDR_ADDR4) or attrs[ADDR_ADDR6]
            index = struct.unpack("=i", attrs[ADDR_IFINDEX])[0] if ADDR_IFINDEX in attrs else 0
            bits = struct.unpack("=I", attrs[ADDR_FLAGS])[0] if ADDR_FLAGS in attrs else 0
            found.append(
                {
                    "id": attrs[ADDR_ID][0],
                    "address": socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw),
                    "port": struct.unpack("=H", attrs[ADDR_PORT])[0] if ADDR_PORT in attrs else 0,
                    "device": device_name(index),
                    "flags": [name for name, bit in ENDPOINT_FLAGS.items() if bits & bit],
                }
            )
        return sorted(found, key=lambda endpoint: int(endpoint["id"]))

    def _address(self, endpoint: Json, attribute: int = PM_ATTR_ADDR) -> bytes:
        packed = ipaddress.ip_address(endpoint["address"]).packed
        family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
        body = pack_attr(ADDR_FAMILY, struct.pack("=H", family))
        body += pack_attr(ADDR_ID, struct.pack("=B", endpoint.get("id", 0)))
        body += pack_attr(ADDR_ADDR4 if len(packed) == 4 else ADDR_ADDR6, packed)
        bits = sum(ENDPOINT_FLAGS[name] for name in endpoint.get("flags", []))
        body += pack_attr(ADDR_FLAGS, struct.pack("=I", bits))
        if endpoint.get("port"):
            body += pack_attr(ADDR_PORT, struct.pack("=H", endpoint["port"]))
        if endpoint.get("device"):
            body += pack_attr(ADDR_IFINDEX, struct.pack("=i", socket.if_nametoindex(endpoint["device"])))
        return pack_attr(attribute | NLA_F_NESTED, body)

    def add(self, endpoint: Json) -> None:
        """Add an endpoint {"address", "id"?, "device"?, "port"?, "flags"?}."""
        self._generic(self.family, PM_ADD_ADDR, self._address(endpoint))

    def delete(self, endpoint: Json) -> None:
        """Delete the endpoint with this id and address."""
        self._generic(self.family, PM_DEL_ADDR, self._address(endpoint))

    def flush(self) -> None:
        """Delete all endpoints at once; the kernel begins again with id 1."""
        self._generic(self.family, PM_FLUSH_ADDRS, b"")

    def set_flags(self, endpoint: Json) -> None:
        """Set "backup" and "fullmesh" of an endpoint as its `flags` say."""
        self._generic(self.family, PM_SET_FLAGS, self._address(endpoint))

    def limits(self) -> Json:
        """Return the limits: {"subflows": n, "add_addr_accepted": n}."""
        attrs = parse_attrs(self._generic(self.family, PM_GET_LIMITS, b"")[0])
        return {
            "subflows": struct.unpack("=I", attrs[PM_ATTR_SUBFLOWS])[0],
            "add_addr_accepted": struct.unpack("=I", attrs[PM_ATTR_RCV_ADD_ADDRS])[0],
        }

    def set_limits(self, subflows: int, add_addr_accepted: int) -> None:
        """Set both limits."""
        attrs = pack_attr(PM_ATTR_RCV_ADD_ADDRS, struct.pack("=I", add_addr_accepted))
        attrs += pack_attr(PM_ATTR_SUBFLOWS, struct.pack("=I", subflows))
        self._generic(self.family, PM_SET_LIMITS, attrs)

    def steer(
        self,
        command: str,
        token: int,
        local: Json | None = None,
        remote: Json | None = None,
        identity: int | None = None,
    ) -> None:
        """Run a command of the userspace path manager for the connection with this local token.

        `command` is a key of STEERING, `identity` an address id. Raises AgentError "os" if the kernel
        refuses the command.
        """
        attrs = pack_attr(PM_ATTR_TOKEN, struct.pack("=I", token))
        if local is not None:
            attrs += self._address(local)
        if remote is not None:
            attrs += self._address(remote, PM_ATTR_ADDR_REMOTE)
        if identity is not None:
            attrs += pack_attr(PM_ATTR_LOC_ID, struct.pack("=B", identity))
        try:
            self._generic(self.family, STEERING[command], attrs)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "?")
            hint = "the connection must have been made under net.mptcp.path_manager=userspace, and be MPTCP"
            raise AgentError(
                "os", f"{name}: {command} refused for token {token:#x}; {hint}", error.errno
            ) from None


def endpoint_main(endpoint: Json) -> int:
    """Add one endpoint as `ip mptcp endpoint add` does, and return the exit status.

    If that fails, print one line with the reason to standard error.
    """
    try:
        with PathManager() as manager:
            manager.add(endpoint)
    except (OSError, ValueError, AgentError) as error:
        flags = " ".join(endpoint["flags"])
        print(f"endpoint {endpoint['address']} dev {endpoint['device']} {flags}: {error}", file=sys.stderr)
        return 1
    return 0
