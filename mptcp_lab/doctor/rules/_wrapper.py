"""Commands that let a service listen with MPTCP: by its own configuration, or by the wrapper. Pure."""

from __future__ import annotations

import re

from mptcp_lab.doctor.host_reading import HostReading
from mptcp_lab.doctor.rules._common import keep_enabled
from mptcp_lab.doctor.service_reading import Process

DROP_IN = "/etc/systemd/system/{unit}.d/mptcp.conf"
#: The versions from which programs have MPTCP of their own.
NATIVE_SINCE = {"haproxy": (3, 1), "nginx": (1, 29, 7)}
#: Where the package mptcpize (Debian) or mptcpd (Fedora) has the library; the loader replaces $LIB.
LIBRARY = "/usr/$LIB/mptcpize/libmptcpwrap.so.0"


def let_listen(host: HostReading, process: Process, port: int) -> tuple[str, str]:
    """Return the commands that let a program listen with MPTCP: now, and after a boot."""
    unit = process.unit or f"{process.name or 'SERVICE'}.service"
    if process.name.startswith("nginx") and is_native(host, "nginx"):
        edit = f"sed -i 's/listen \\(.*\\b{port}\\)\\b/listen \\1 multipath/' /etc/nginx/nginx.conf"
        return f"{edit} && systemctl restart {unit}", keep_enabled(unit)
    if process.name.startswith("haproxy") and is_native(host, "haproxy"):
        edit = f"sed -i 's/bind \\(.*:{port}\\)\\b/bind mptcp@\\1/' /etc/haproxy/haproxy.cfg"
        return f"{edit} && systemctl restart {unit}", keep_enabled(unit)
    write = write_drop_in(unit, "GODEBUG=multipathtcp=1") if process.go_version else preload(host, unit)
    return f"{write} && systemctl restart {unit}", keep_enabled(unit)


def is_native(host: HostReading, program: str) -> bool:
    """Return whether the installed version of a program supports MPTCP natively."""
    version = tuple(map(int, re.findall(r"\d+", host.tools.get(program, ""))[:3]))
    return version >= NATIVE_SINCE[program]


def preload(host: HostReading, unit: str) -> str:
    """Return the command that makes a unit preload the wrapper, which is installed first where it lacks."""
    install = ""
    if "mptcpize" not in host.tools:
        is_debian = host.os_id in ("debian", "ubuntu")
        install = "apt-get install -y mptcpize && " if is_debian else "dnf install -y mptcpd && "
    return install + write_drop_in(unit, f"LD_PRELOAD={LIBRARY}")


def write_drop_in(unit: str, assignment: str) -> str:
    """Return the command that sets an environment variable of a unit, without a restart."""
    path = DROP_IN.format(unit=unit)
    text = f"[Service]\\nEnvironment={assignment}\\n"
    return f"mkdir -p {path.rsplit('/', 1)[0]} && printf '{text}' > {path} && systemctl daemon-reload"
