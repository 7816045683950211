"""Captures as they come: gzipped, through pipes, of several link types, tagged, in tunnels, damaged."""

from __future__ import annotations

import fcntl
import gzip
import os
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest

from mptcp_lab.wire import CaptureError, CaptureFile, build_packet
from mptcp_lab.wire.analyse import analyse_file
from mptcp_lab.wire.packet import ETHERNET, RAW, SLL, SLL2
from tests.wire.conftest import CASES, named, segments_of
from tests.wire.test_capture import PACKET, SYN_SEGMENT, pcap

COMMAND = [sys.executable, "-m", "mptcp_lab.wire"]
BOTH_FORMATS = pytest.mark.parametrize("name", ["join", "handshake"])  # pcap, pcapng


def run(*arguments: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def same_but_for_name(out: bytes, path: Path) -> bool:
    """Whether an output says what that of the file itself does."""
    return out.split(b": ", 1)[1] == run(str(path)).stdout.split(b": ", 1)[1]


@BOTH_FORMATS
def test_gzip_says_what_the_plain_file_does(name: str, tmp_path: Path) -> None:
    packed = tmp_path / "capture.gz"
    packed.write_bytes(gzip.compress(named(name).read_bytes()))
    done = run(str(packed))
    assert done.returncode == 0
    assert same_but_for_name(done.stdout, named(name))


def test_gzip_of_two_members_and_padding(tmp_path: Path) -> None:
    data = named("join").read_bytes()
    packed = tmp_path / "capture.gz"
    packed.write_bytes(gzip.compress(data[:1000]) + gzip.compress(data[1000:]) + bytes(512))
    capture = CaptureFile(packed)
    assert tuple(capture) == segments_of(named("join"))
    assert (capture.is_cut, capture.damage) == (False, "")


@BOTH_FORMATS
def test_gzip_cut_short_gives_what_is_whole(name: str, tmp_path: Path) -> None:
    packed = gzip.compress(named(name).read_bytes(), mtime=0)
    path = tmp_path / "capture.gz"
    read = 0
    for size in range(1, len(packed), 7):
        path.write_bytes(packed[:size])
        try:
            capture = CaptureFile(path)
            segments = tuple(capture)
        except CaptureError:
            continue
        read += 1
        assert segments == segments_of(named(name))[: len(segments)]
        assert "ends early" in capture.damage
    assert read > 10


@BOTH_FORMATS
@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_a_pipe(name: str, path: str) -> None:
    done = run(path, input=named(name).read_bytes())
    assert done.returncode == 0, done.stderr
    assert same_but_for_name(done.stdout, named(name))


@BOTH_FORMATS
def test_standard_input_from_a_file(name: str) -> None:
    with named(name).open("rb") as file:
        done = run("-", stdin=file)
    assert same_but_for_name(done.stdout, named(name))


@BOTH_FORMATS
def test_a_named_pipe(name: str, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=lambda: path.write_bytes(named(name).read_bytes()))
    writer.start()
    capture = CaptureFile(path)
    assert tuple(capture) == segments_of(named(name))
    writer.join()


def test_a_pipe_that_brings_nothing() -> None:
    done = run("-", input=b"")
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1)
    assert done.stderr.startswith(b"standard input: is empty; ")


def test_an_interrupt_ends_a_capture_that_comes_through_a_pipe() -> None:
    """As when ^C ends tcpdump at the other end of the pipe: what had come is reported."""
    data = named("join").read_bytes()
    with subprocess.Popen(
        [*COMMAND, "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        process.stdin.write(data)
        process.stdin.flush()
        wait_until_taken(process.stdin.fileno(), process.pid)
        process.send_signal(signal.SIGINT)
        process.wait(30)
        out, errors = process.stdout.read(), process.stderr.read()
    assert errors == b""
    assert b"standard input: " in out and b"connection 0: mptcp" in out


def wait_until_taken(pipe: int, reader: int) -> None:
    """Wait until the reader of a pipe has taken everything, and sleeps until more comes."""
    deadline = time.monotonic() + 60
    status = Path(f"/proc/{reader}/stat")
    while (
        struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]
        or ") S " not in status.read_text()
    ):
        assert time.monotonic() < deadline, "the reader does not read"
        time.sleep(0.01)


TAGGED = {
    "sll": (SLL, bytes(14) + b"\x81\x00" + b"\x00\x05\x08\x00" + PACKET),
    "sll double": (SLL, bytes(14) + b"\x88\xa8" + b"\x00\x05\x81\x00" + b"\x00\x06\x08\x00" + PACKET),
    "sll2": (SLL2, b"\x81\x00" + bytes(18) + b"\x00\x05\x08\x00" + PACKET),
    "ethernet 9100": (ETHERNET, bytes(12) + b"\x91\x00\x00\x05\x08\x00" + PACKET),
}


@pytest.mark.parametrize("form", TAGGED)
def test_vlan_tags(form: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(TAGGED[form][0], TAGGED[form][1]))
    (segment,) = CaptureFile(path)
    assert (segment.sport, segment.options) == (SYN_SEGMENT.sport, SYN_SEGMENT.options)


def ipv4(protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet of that protocol."""
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol, 0)
    return head + bytes((198, 18, 1, 1, 198, 18, 1, 2)) + payload


def udp(port: int, payload: bytes) -> bytes:
    return ipv4(17, struct.pack(">HHHH", 40000, port, 8 + len(payload), 0) + payload)


TUNNELS: dict[str, tuple[int, bytes]] = {
    "GTP": (RAW, udp(2152, bytes(8) + PACKET)),
    "VXLAN": (RAW, udp(4789, bytes(8) + bytes(14) + PACKET)),
    "Geneve": (RAW, udp(6081, bytes(8) + bytes(14) + PACKET)),
    "GRE": (RAW, ipv4(47, b"\x00\x00\x08\x00" + PACKET)),
    "IPIP": (RAW, ipv4(4, PACKET)),
    "IPv6 in IP": (RAW, ipv4(41, PACKET)),
    "IPsec ESP": (RAW, ipv4(50, PACKET)),
    "PPPoE": (ETHERNET, bytes(12) + b"\x88\x64" + bytes(8) + PACKET),
    "MPLS": (ETHERNET, bytes(12) + b"\x88\x47" + bytes(4) + PACKET),
    "PKTAP": (258, bytes(108) + PACKET),
}


@pytest.mark.parametrize("name", TUNNELS)
def test_a_tunnel_is_named_in_the_refusal(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(*TUNNELS[name]))
    done = run(str(path))
    assert done.returncode == 2
    text = done.stderr.decode()
    assert f"{name} tunnel" in text or f"({name})" in text
    assert "capture at an end of the tunnel" in text
    assert text.count("\n") == 1


def test_a_tunnel_beside_tcp_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(RAW, PACKET, TUNNELS["GTP"][1], PACKET))
    done = run(str(path))
    assert done.returncode == 0
    assert b"not read: 1 packet in a GTP tunnel\n" in done.stdout


def test_one_unreadable_interface_does_not_refuse_the_rest() -> None:
    done = run(str(CASES / "two-interfaces.pcapng"))
    assert done.returncode == 0
    assert b"not read: 1 packet of link type 239 (NFLOG), which is not read here\n" in done.stdout
    assert b"; 1 MPTCP connections, 0 plain TCP" in done.stdout


def test_sections_of_both_byte_orders(tmp_path: Path) -> None:
    """A second section, byte by byte the other way round."""
    path = tmp_path / "x.pcapng"
    path.write_bytes(section("<", PACKET) + section(">", PACKET, PACKET))
    assert len(tuple(CaptureFile(path))) == 3


def section(order: str, *frames: bytes, resolution: bytes = b"") -> bytes:
    """A section of pcapng with one interface of raw IP."""

    def block(kind: int, body: bytes) -> bytes:
        size = struct.pack(order + "I", 12 + len(body))
        return struct.pack(order + "I", kind) + size + body + size

    def packet(frame: bytes) -> bytes:
        head = struct.pack(order + "IIIII", 0, 0, 1000, len(frame), len(frame))
        return block(6, head + frame + bytes(-len(frame) % 4))

    options = struct.pack(order + "HH", 9, 1) + resolution + bytes(7) if resolution else b""
    return (
        block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
        + block(1, struct.pack(order + "HHI", RAW, 0, 0) + options)
        + b"".join(map(packet, frames))
    )


@pytest.mark.parametrize(
    ("resolution", "time_ns"),
    [(b"", 1_000_000), (b"\x03", 1_000_000_000), (b"\x09", 1000), (b"\x8a", 976_562_500)],
)
def test_resolutions_of_time(resolution: bytes, time_ns: int, tmp_path: Path) -> None:
    path = tmp_path / "x.pcapng"
    path.write_bytes(section("<", PACKET, resolution=resolution))
    assert [each.time_ns for each in CaptureFile(path)] == [time_ns]


BAD = {
    "01-second-section-cut.pcapng": (0, b", cut short; 1 MPTCP connections"),
    "02-complete-but-compressed.pcapng.gz": (0, b" s; 1 MPTCP connections"),
    "03-section-of-4-GiB.pcapng": (2, b"a section header of 4294967280 octets"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str) -> None:
    code, text = BAD[name]
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v 3500000; exec "$@" "{CASES / name}"', "-", *COMMAND],
        capture_output=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert text in done.stdout + done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["zstd", "xz", "lz4", "bzip2"])
def test_another_compression_is_named(name: str, tmp_path: Path) -> None:
    magics = {"zstd": b"\x28\xb5\x2f\xfd", "xz": b"\xfd7zXZ\0", "lz4": b"\x04\x22\x4d\x18", "bzip2": b"BZh9"}
    path = tmp_path / "capture"
    path.write_bytes(magics[name] + bytes(50))
    with pytest.raises(CaptureError, match=f"is compressed with {name}"):
        CaptureFile(path)


def test_damage_within_a_capture_keeps_what_came_before(tmp_path: Path) -> None:
    data = named("join").read_bytes()
    path = tmp_path / "x.pcap"
    end = 24
    for _ in range(10):
        end += 16 + struct.unpack_from("<I", data, end + 8)[0]
    path.write_bytes(data[:end] + b"\xff" * 16 + data[end:])
    _, capture = analyse_file(path)
    assert (capture.segments, capture.is_cut) == (10, False)
    assert capture.damage == f"damaged at octet {end}: a packet of 4294967295 octets"


def test_a_snap_length_that_leaves_no_header_is_said(tmp_path: Path) -> None:
    """Not a single sequence number: one sentence, exit code 2."""
    path = tmp_path / "x.pcap"
    frame = build_packet(SYN_SEGMENT)[:30]
    record = struct.pack("<IIII", 1, 2, len(frame), 60) + frame
    path.write_bytes(pcap(RAW) + record * 3)
    done = run(str(path))
    assert done.returncode == 2
    assert b"3 packets of TCP that the snap length cuts before the sequence numbers" in done.stderr
    assert b"snap length of 128" in done.stderr


def test_memory_does_not_grow_with_a_flood_of_pcapng_options(tmp_path: Path) -> None:
    """A gzip of zeros behind a section header: read in pieces, refused as damage."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(section("<", PACKET) + bytes(1 << 26)))
    _, capture = analyse_file(path)
    assert capture.segments == 1
    assert "a block of type 0x0 and 0 octets" in capture.damage
