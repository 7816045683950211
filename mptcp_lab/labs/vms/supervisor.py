"""Run one QEMU, and relay a Unix socket to the SSH port that QEMU forwards; end when QEMU ends.

Usage: supervisor.py SOCKET ADDRESS QEMU [ARGUMENT...]. It runs in the fabric's network namespace, whose
loopback no other program uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

CHUNK = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy bytes until the reader reaches end of file."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
    """Relay one SSH connection until either side closes it, then close the other side.

    QEMU accepts connections before the guest does, so that a client that gave up waiting for a booting
    machine would otherwise leave its connection open.
    """
    with contextlib.suppress(OSError):
        far_reader, far_writer = await asyncio.open_connection(address, 22)
        pumps = [
            asyncio.create_task(_pump(reader, far_writer)),
            asyncio.create_task(_pump(far_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        far_writer.close()
    writer.close()


async def keep(path: Path, address: str, qemu: list[str]) -> int:
    """Listen on the Unix socket `path` as long as QEMU runs; return QEMU's exit status."""
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(lambda r, w: _relay(r, w, address), path)
    path.chmod(0o600)
    if uid := os.environ.get("SUDO_UID"):
        os.chown(path, int(uid), int(os.environ["SUDO_GID"]))
    process = await asyncio.create_subprocess_exec(*qemu)
    code = await process.wait()
    server.close()
    path.unlink(missing_ok=True)
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(keep(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
