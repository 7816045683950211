"""Wave 2: SYNs dropped, sources rewritten, no option space (R11 R59 R61), addresses removed (R47 R48)."""

from mptcp_lab.machines.session import Machine, Session
from mptcp_lab.plugin import EvidenceBox, claim
from mptcp_lab.probe import NewEndpoint
from mptcp_lab.suite.expectations import announcing_nothing, direct_flow, origin_of, wait_for_joins
from mptcp_lab.suite.gateway.lost_syns import blackhole_timeout, retransmissions_before_fallback
from mptcp_lab.suite.packets import capable, first_syns, format_segments, joins, rows, tcp_capture
from mptcp_lab.suite.requirements import FORWARDERS, IPV6, ORIGIN, SERVER_TWO_PATHS, TWO_PATHS
from mptcp_lab.suite.rfc8684.option_space import find_loss
from mptcp_lab.suite.rfc8684.ordinary import wait_for_growth
from mptcp_lab.suite.rfc8684.peer import peer
from mptcp_lab.suite.rfc8684.peer_connections import talks_to
from mptcp_lab.suite.split.forwarders import split_of
from mptcp_lab.suite.traffic import Target, flow, is_mptcp
from mptcp_lab.wire import AddAddr, RemoveAddr
from mptcp_lab.wire.codec import encode_options
from mptcp_lab.wire.packet import ACK, FIN, SYN


@claim("R11", requires=ORIGIN)
def test_option_dropped(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """If SYNs with the option are lost, the client sends one without it after the configured retries."""
    wanted = retransmissions_before_fallback(client)
    with (
        blackhole_timeout(client, 0),
        server.probe.fault("drop_option", direction="in", dport=origin_of(server).port),
        tcp_capture(client, origin_of(server).port) as capture,
        direct_flow(client, server) as data,
    ):
        evidence.figure("connected after", data.stream.seconds, "s")
        assert not is_mptcp(data.stream), "the connection is MPTCP although its first SYNs were dropped"
        syns = first_syns(capture.stop())
    evidence.packets(rows(syns, client.name))
    tried = [capable(syn) for syn in syns]
    assert tried == [True] * (wanted + 1) + [False], f"SYNs: {format_segments(syns)}"


@claim("R59", requires=FORWARDERS)
def test_source_rewritten(client: Machine, server: Machine, machines: Session, evidence: EvidenceBox) -> None:
    """A join whose source address is rewritten on the way is accepted, since its address id identifies it."""
    split = split_of(machines, client, server, snat=True)
    with split.announced_address(), tcp_capture(server, split.origin.port) as capture, split.flow() as data:
        transfer = data.start()
        wait_for_joins(data, split.expected_matrix)
        seen_by_b = split.seen_by_b(data)
        ended = data.end(transfer)
        asked = joins(capture.stop())
    evidence.packets(rows(asked, server.name))
    assert seen_by_b == split.insides, "B sees other addresses than the proxies' own"
    assert ended.intact, ended.difference


@claim("R61", requires=(ORIGIN, IPV6))
def test_option_space(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """An ADD_ADDR of IPv6 with port fits 40 octets of options: timestamps give way, or it is dropped."""
    core = next(nic for nic in server.host.nics if nic not in server.paths and nic.up)
    address, before = str(core.address(6)), server.probe.counters()
    with (
        announcing_nothing(server),
        server.probe.fault("endpoint_add", address=address, flags=["signal"], port=7998),
        tcp_capture(client, origin_of(server).port) as capture,
        flow(client, server.address(0, 6), origin_of(server).port, server, origin_of(server)) as data,
    ):
        ended = data.upload(100_000)
        moved = server.probe.counters().delta(before)
        packets = capture.stop()
    sent = [s for s in packets if any(isinstance(o, AddAddr) and not o.echo for o in s.options)]
    evidence.packets(rows(sent, client.name))
    evidence.figure("ADD_ADDR sent", len(sent))
    if moved.has("AddAddrTxDrop"):
        evidence.figure("ADD_ADDR dropped for want of space", moved.mptcp("AddAddrTxDrop"))
    loss = find_loss(len(sent), moved.mptcp("AddAddrTxDrop"), server.probe.sysctls())
    assert not loss, loss
    bad = [s for s in packets if len(encode_options(s.options)) > 40 or s.malformed]
    assert not bad, f"options over 40 octets, or malformed: {format_segments(bad)}"
    assert ended.intact, ended.difference


@claim("R47", case="flush", requires=(ORIGIN, SERVER_TWO_PATHS, IPV6))
def test_flush(client: Machine, server: Machine, evidence: EvidenceBox) -> None:
    """A flush of two announced addresses is one REMOVE_ADDR with both ids, and the connection survives."""
    addresses = {8: server.address(1), 9: server.address(0, 6)}
    signals = [NewEndpoint(address, ("signal",), number) for number, address in addresses.items()]
    with (
        server.probe.replace_endpoints(*signals) as endpoints,
        tcp_capture(client, origin_of(server).port) as capture,
        direct_flow(client, server) as data,
    ):
        transfer = data.start()
        wait_for_growth(server, data.opening.before[1], "EchoAdd", len(signals))
        endpoints.flush()
        wait_for_growth(client, data.opening.before[0], "RmAddr", len(signals))
        ended = data.end(transfer)
        packets = [s for s in capture.stop() if any(isinstance(o, RemoveAddr) for o in s.options)]
    evidence.packets(rows(packets, client.name))
    ids = [set(o.address_ids) for s in packets for o in s.options if isinstance(o, RemoveAddr)]
    assert ids and all(each == set(addresses) for each in ids), f"ids of each REMOVE_ADDR: {ids}"
    assert ended.intact, ended.difference


@claim("R48", requires=TWO_PATHS)
def test_address_removed(client: Machine, target: Target, evidence: EvidenceBox) -> None:
    """After REMOVE_ADDR for a working path, the kernel sends a keepalive before it closes the subflow."""
    with peer(client, evidence) as wire_client:
        first = talks_to(wire_client, target)
        further = wire_client.joins(target.machine.address(), target.port, client.address(1))
        first.says(ACK, RemoveAddr((1,)))
        fin = further.hears(FIN | ACK, what="FIN of the removed subflow")
        theirs = [s for s in further.wire.log if further.leg.is_from_peer(s) and not s.flags & SYN]
    keepalives = [s for s in theirs if (s.seq + 1 - fin.seq) % (1 << 32) == 0]
    evidence.figure("keepalives before FIN", len(keepalives))
    assert keepalives, "the subflow was closed without a keepalive before"
