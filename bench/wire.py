"""The analyser against tshark for the same fields: `python -m bench.wire [--json FILE]` (needs tshark).

A real two-path transfer is repeated, each time as a new connection, until the capture has the wanted number
of packets. Times are the median of RUNS. Memory is the peak of a separate process, also at a tenth of the
size, and for one long connection: that is what has to stay flat.
"""

from __future__ import annotations

import argparse
import json
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mptcp_lab.wire import CaptureFile, Dss, Segment, TcpOption, analyse, build_packet
from mptcp_lab.wire.packet import ACK, RAW

SOURCE = Path(__file__).parents[1] / "tests" / "wire" / "captures" / "bulk.pcap"
RUNS = 5
PACKETS = 100_000
TIMES_TSHARK = 3.0
HEADER = 128
FIELDS = (
    "frame.number tcp.stream tcp.options.mptcp.subtype tcp.options.mptcp.rawdataack mptcp.ack mptcp.stream "
    "tcp.options.mptcp.rawdataseqno tcp.options.mptcp.subflowseqno tcp.options.mptcp.datalvllen "
    "mptcp.expected_token mptcp.dss.dsn mptcp.related_mapping tcp.analysis.retransmission"
).split()


def connections(count: int) -> Iterator[Segment]:
    """The same transfer, from other ports and sequence numbers: else it would be a translated copy."""
    source = list(CaptureFile(SOURCE))
    for number in range(count):
        at = source[number % len(source)]
        shift = number // len(source)
        client = (at.dport if at.sport == 7000 else at.sport) + shift
        sport, dport = (7000, client % 65536) if at.sport == 7000 else (client % 65536, at.dport)
        ack = (at.ack + shift) % 2**32 if at.flags & ACK else 0
        yield replace(at, sport=sport, dport=dport, seq=(at.seq + shift) % 2**32, ack=ack)


def one_connection(count: int) -> Iterator[Segment]:
    """Its handshake, then data without end, acknowledged every second segment."""
    source = list(CaptureFile(SOURCE))
    handshake = source[:4]
    yield from handshake
    idsn, sent = analyse(handshake).connections[0].client.idsn or 0, 1
    data = replace(handshake[2], flags=ACK, payload=b"", payload_length=1000)
    reply = replace(handshake[1], flags=ACK, window=65535)
    for number in range(count - len(handshake)):
        if number % 3 < 2:
            dss = Dss(dsn=idsn + sent, subflow_seq=sent % 2**32, data_length=1000)
            yield replace(data, seq=(handshake[0].seq + sent) % 2**32, options=(dss,))
            sent += 1000
        else:
            ack = (TcpOption(1), TcpOption(1), Dss(data_ack=idsn + sent))
            yield replace(reply, ack=(handshake[0].seq + sent) % 2**32, options=ack)


def write(path: Path, segments: Iterator[Segment]) -> None:
    """A capture of link type RAW, HEADER octets of each packet."""
    with path.open("wb") as file:
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, HEADER, RAW))
        for number, each in enumerate(segments):
            # The payload is not in the source: its length is in the IP header.
            packet = build_packet(replace(each, payload=bytes(each.payload_length)))
            kept = packet[:HEADER]
            file.write(struct.pack("<IIII", number // 10_000, number % 10_000 * 100, len(kept), len(packet)))
            file.write(kept)


def measure_seconds(command: list[str]) -> float:
    """Seconds that a command takes, start-up and all."""
    start = time.monotonic()
    try:
        subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}: install {command[0]} and try again")
    return time.monotonic() - start


def ours(path: Path) -> list[str]:
    """The analysis of a file, by a separate process that prints its peak memory in KiB."""
    code = (
        "from mptcp_lab.wire import analyse_file\n"
        f"analyse_file({str(path)!r})\n"
        "print(next(each.split()[1] for each in open('/proc/self/status') if each.startswith('VmHWM')))"
    )
    return [sys.executable, "-c", code]


def peak_mib(path: Path) -> float:
    """Peak memory of the analysis of a file."""
    out = subprocess.run(ours(path), check=True, capture_output=True, text=True).stdout
    return round(int(out) / 1024, 1)


def tsharks(path: Path) -> list[str]:
    """tshark for FIELDS."""
    command = ["tshark", "-n", "-r", str(path), "-o", "mptcp.analyze_mappings:TRUE", "-T", "fields"]
    return command + [part for name in FIELDS for part in ("-e", name)]


def measure() -> dict[str, float]:
    """All figures."""
    with tempfile.TemporaryDirectory() as folder:
        many, tenth, long, short = (Path(folder) / name for name in ("many", "tenth", "long", "short"))
        write(many, connections(PACKETS))
        write(tenth, connections(PACKETS // 10))
        write(long, one_connection(PACKETS))
        write(short, one_connection(PACKETS // 10))
        seconds = statistics.median(measure_seconds(ours(many)) for _ in range(RUNS))
        tshark_seconds = statistics.median(measure_seconds(tsharks(many)) for _ in range(RUNS))
        mib = [peak_mib(each) for each in (many, tenth, long, short)]
    return {
        "packets": PACKETS,
        "seconds": round(seconds, 3),
        "tshark_seconds": round(tshark_seconds, 3),
        "times_tshark": round(seconds / tshark_seconds, 2),
        "limit_times_tshark": TIMES_TSHARK,
        "mib": mib[0],
        "mib_tenth": mib[1],
        "mib_one_connection": mib[2],
        "mib_one_connection_tenth": mib[3],
    }


def main() -> int:
    """Print the table, write the JSON; 1 if slower than TIMES_TSHARK allows."""
    parser = argparse.ArgumentParser(description="mptcp_lab.wire against tshark")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    options = parser.parse_args()
    figures = measure()
    for name, value in figures.items():
        print(f"{name:<26} {value:>10}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n")
    return int(figures["times_tshark"] > TIMES_TSHARK)


if __name__ == "__main__":
    sys.exit(main())
