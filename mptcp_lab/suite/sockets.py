"""Read the TCP sockets of a host from `ss`: each subflow is one, whichever program owns it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from mptcp_lab.probe.facts import TCP_ESTABLISHED, Subflow

#: The local and remote address of a subflow, as seen from the client.
AddressPair = tuple[str, str]
ESTABLISHED, SYN_SENT, SYN_RECEIVED = "ESTAB", "SYN-SENT", "SYN-RECV"
MAPPED = "::ffff:"


@dataclass(frozen=True)
class TcpSocket:
    """A TCP socket that is not a listener; while its handshake lasts, it is in state SYN-SENT or SYN-RECV."""

    state: str
    local: str
    lport: int
    remote: str
    rport: int


def ss_command(side: str, port: int) -> list[str]:
    """Return the command that prints the sockets whose ``sport`` or ``dport`` (`side`) is `port`.

    It prints only sockets that are established or in their handshake, because a busy port leaves thousands in
    TIME-WAIT. It asks for several states, because `ss` omits the state's column if it is asked for one.
    """
    states = ("established", "syn-recv", "syn-sent")
    return ["ss", "-Htn", *(word for state in states for word in ("state", state)), side, "=", f":{port}"]


def parse_sockets(printed: str) -> tuple[TcpSocket, ...]:
    """Return the sockets in the output of `ss_command`, without listeners and lines that are not sockets."""
    found = []
    for line in printed.splitlines():
        words = line.split()
        if len(words) < 5 or words[0] == "LISTEN":
            continue
        (local, lport), (remote, rport) = _end(words[3]), _end(words[4])
        if lport.isdigit() and rport.isdigit():
            found.append(TcpSocket(words[0], local, int(lport), remote, int(rport)))
    return tuple(found)


def _end(text: str) -> tuple[str, str]:
    """Split ``[fe80::1]%eth1:7000`` into address and port; convert IPv4-mapped addresses to IPv4."""
    address, _, port = text.rpartition(":")
    address = address.partition("%")[0].strip("[]")
    mapped = address.startswith(MAPPED) and "." in address
    return (address[len(MAPPED) :] if mapped else address), port


def at_both_ends(
    mine: Iterable[Subflow],
    theirs: Iterable[TcpSocket],
    seen_as: Callable[[AddressPair], str] | None = None,
) -> set[AddressPair]:
    """Return the subflows that the client and its peer have both established.

    The client establishes a subflow when the SYN/ACK of its join arrives. Its peer stays in SYN-RECV until
    the third packet arrives. `seen_as` returns the address that the peer sees for one of the client's pairs,
    where addresses are translated in between. Without it, addresses and ports of both ends must agree.
    """
    # A kernel before 5.16 does not report the state: a subflow that its peer has established counts as
    # established.
    up = [each for each in mine if each.tcp.get("state", TCP_ESTABLISHED) == TCP_ESTABLISHED]
    far = [each for each in theirs if each.state == ESTABLISHED]
    if seen_as is None:
        known = {(each.remote, each.rport, each.local, each.lport) for each in far}
        return {
            (each.local, each.remote)
            for each in up
            if (each.local, each.lport, each.remote, each.rport) in known
        }
    left = Counter(each.remote for each in far)
    found = set()
    for pair in sorted((each.local, each.remote) for each in up):
        if left[seen_as(pair)] > 0:
            left[seen_as(pair)] -= 1
            found.add(pair)
    return found
