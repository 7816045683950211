"""Find packets that were sent and not captured.

Only a capture that is known to be complete can prove that something was not sent.
"""

from __future__ import annotations

from collections.abc import Iterator

from mptcp_lab.wire.model import KEPT, Connection, Gap, Half, Lack, State, Stream, Subflow
from mptcp_lab.wire.options.addresses import AddAddr


def find_gaps(connection: Connection, unattributed: int) -> tuple[Gap, ...]:
    """Return the gaps of a connection: the packets that were sent and are not in the capture.

    `unattributed` is the number of TCP packets of the capture that were cut before their sequence numbers.
    """
    gaps = [gap for each in connection.subflows for gap in _of_subflow(each)]
    cut = sum(each.cut_headers for each in connection.subflows)
    first_packet = connection.subflows[0].first_packet
    if cut:
        text = f"the TCP headers of {cut} of its packets are cut by the snap length"
        gaps.append(Gap(Lack.HEADERS, text, first_packet))
    if unattributed:
        text = f"{unattributed} TCP packets of the capture are cut before their sequence numbers"
        gaps.append(Gap(Lack.HEADERS, text, first_packet))
    gaps += _unannounced_echoes(connection)
    if connection.state is State.PARTIAL and not gaps:
        gaps.append(Gap(Lack.START, "the capture begins after the connection did", first_packet))
    if not gaps and not connection.is_whole_end:
        gaps += [
            gap for each in (connection.client, connection.server) for gap in _of_stream(connection, each)
        ]
    return tuple(gaps)


def _of_subflow(subflow: Subflow) -> Iterator[Gap]:
    name, halves = f"subflow {subflow.id}", (subflow.client, subflow.server)
    one_way = [each for each in halves if not each.packets and each.isn is not None]
    for half in one_way:
        text = f"nothing that the {half.side.value} sent on {name} was captured, though it was acknowledged"
        yield Gap(Lack.DIRECTION, text, subflow.first_packet)
    if one_way:
        return
    if subflow.syn is None and not subflow.is_opening_cut:
        yield Gap(Lack.START, f"the capture begins after {name} did", subflow.first_packet)
    elif subflow.answered_packet is None and subflow.is_past_handshake:
        yield Gap(Lack.HANDSHAKE, f"the SYN/ACK of {name} was not captured", subflow.first_packet)
    elif subflow.is_third_missing:
        yield Gap(Lack.HANDSHAKE, f"the third packet of {name} was not captured", subflow.first_packet)
    for half in halves:
        yield from _of_half(name, half)


def _unannounced_echoes(connection: Connection) -> Iterator[Gap]:
    """Yield a gap for each ADD_ADDR whose echo was captured without the ADD_ADDR itself."""
    announced = {
        (each.side, each.option.address_id, each.option.address, each.option.port)
        for each in connection.announcements
    }
    if connection.announcements.total > KEPT:
        return
    for each in connection.echoes:
        option = each.option
        if not isinstance(option, AddAddr):
            continue
        if (each.side.peer, option.address_id, option.address, option.port) not in announced:
            text = f"the ADD_ADDR of {option.address} was echoed and not captured"
            yield Gap(Lack.OPTIONS, text, each.packet)


def _of_half(name: str, half: Half) -> Iterator[Gap]:
    """Yield a gap if octets were acknowledged that no packet of the capture carries, not even a later one."""
    if half.missing_packet is not None and not half.seen.covers(1, half.acked):
        text = f"octets of the {half.side.value} on {name} were acknowledged and not captured"
        yield Gap(Lack.OCTETS, text, half.missing_packet)


def _of_stream(connection: Connection, stream: Stream) -> Iterator[Gap]:
    """Yield a gap if data was acknowledged that no captured subflow carried.

    The captured subflows are complete here, so that the data went over a subflow that was not captured.
    There is no gap if data or a DATA_ACK goes beyond the DATA_FIN: that is an error of a host.
    """
    start = stream.first_dsn if stream.idsn is None else stream.idsn + 1
    if stream.acked is None or stream.acked_packet is None or connection.state is State.FALLBACK:
        return
    fin = stream.data_fin
    if fin is not None and max(stream.highest or 0, stream.acked) > fin + 1:
        return
    end = stream.acked - (fin is not None and stream.acked > fin)
    if start is None:
        is_lacking = stream.acked_packet is not None and stream.mappings == 0
    else:
        is_lacking = start < end and not stream.mapped.covers(start, end)
    if is_lacking:
        text = (
            f"data of the {stream.side.value} was acknowledged that no captured subflow carried: "
            "a path was not captured"
        )
        yield Gap(Lack.PATH, text, stream.acked_packet)
