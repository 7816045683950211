"""The variables that an inventory may set for the lab, and the form of their values.

A variable that begins with ``lab_`` and is not listed here is refused: a misspelt name would otherwise
silently withdraw a consent or switch off a protection.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mptcp_lab.inventory.engines import ENGINES
from mptcp_lab.inventory.errors import InventoryError

#: Variables that `mptcp_lab.inventory.validate` reads and checks.
STRUCTURES = (
    "lab_name",
    "lab_flavour",
    "lab_segments",
    "lab_nics",
    "lab_services",
    "lab_mptcp",
    "lab_endpoint_flags",
    "lab_mgmt_device",
)
BOOLEANS = (
    "lab_owned",
    "lab_packages_ok",
    "lab_reboot_ok",
    "lab_kernel_ok",
    "lab_restart_nics_ok",
    "lab_ignore_lease",
)
#: Variables with one line of text, such as paths on the controller.
TEXTS = (
    "lab_ssh_config",
    "lab_lock",
    "lab_kernel",
    "lab_kernel_modules",
    "lab_render_system",
    "lab_render_versions",
)
OWNERS = ("kernel", "mptcpd", "networkmanager")
#: Variables of roles (roles/*/defaults/main.yml) and playbooks that an inventory may set.
ROLE_VARIABLES = (
    *(name for engine in ENGINES.values() for name in engine.variables),
    "mptcp_kernel_source",
    "mptcp_kernel_packages",
    "mptcp_kernel_version",
    "mptcp_kernel_files",
    "mptcp_limit_subflows",
    "mptcp_limit_add_addr_accepted",
    "mptcp_template",
    "mptcp_sysctl_template",
    "mptcp_daemon_template",
    "kernel_reboot_within",
    "lab_network_table_base",
    "lab_network_protocol",
    "lab_network_templates",
    "lab_network_way_back_after",
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
SYSCTL_KEY = re.compile(r"[a-z0-9_]{1,64}")
#: Settings in Documentation/networking/mptcp-sysctl.rst; newer kernels may have more.
SYSCTLS = (
    "add_addr_timeout",
    "add_addr_v6_port_drop_ts",
    "allow_join_initial_addr_port",
    "blackhole_timeout",
    "checksum_enabled",
    "close_timeout",
    "path_manager",
    "pm_type",
    "scheduler",
    "stale_loss_cnt",
    "syn_retrans_before_tcp_fallback",
)
SYSCTL_VALUE = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
CONGESTION_CONTROL = re.compile(r"[a-z0-9_]{1,15}")
#: The same limit as in `mptcp_lab.patience`.
MOST_PATIENCE = 60
IMAGE = re.compile(r"[a-z]+-[0-9]+")


def check_variables(host: str, variables: Mapping[str, Any]) -> None:
    """Refuse unknown lab variables, misspelt role variables, wrong types and control characters.

    Raises:
        InventoryError: one of these; for an unknown name, the message suggests the closest known one.
    """
    for name, value in variables.items():
        _check_name(host, name)
        if name in BOOLEANS and not isinstance(value, bool):
            raise InventoryError(host, name, f"{value!r} is not true or false", f"{name}: true")
        if name in CHECKS:
            CHECKS[name](host, name, value)
        if name in TEXTS or name in ROLE_VARIABLES or name.startswith("ansible_"):
            _check_text(host, name, value)


def suggestion(word: str, known: Iterable[str], likeness: float = 0.75) -> str:
    """Return " (did you mean X?)" for the known word most similar to ``word``, or the empty string.

    ``likeness`` is the least similarity, from 0 to 1, as difflib measures it.
    """
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=likeness)
    return f" (did you mean {close[0]}?)" if close else ""


def _check_name(host: str, name: str) -> None:
    known = (*STRUCTURES, *BOOLEANS, *TEXTS, *CHECKS, *ROLE_VARIABLES)
    if name in known:
        return
    is_lab = name.lower().startswith("lab_")
    hint = suggestion(name, known, 0.75 if is_lab else 0.9)  # other names may be the user's variables
    if is_lab or (hint and not name.startswith("ansible_")):
        raise InventoryError(host, name, f"no such variable{hint}", "lab_owned: false (docs/hardware.md)")


def _check_text(host: str, name: str, value: Any) -> None:
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and CONTROL.search(text):
            raise InventoryError(host, name, "has a line end or a control character", "one line of text")


def _check_sysctls(host: str, name: str, value: Any) -> None:
    if not isinstance(value, Mapping):
        raise InventoryError(host, name, f"expected a mapping, got {value!r}", "{stale_loss_cnt: 4}")
    for key, setting in value.items():
        where = f"{name}.{key}"
        if not SYSCTL_KEY.fullmatch(str(key)):
            problem = f"{key!r} is not the last part of a name below net.mptcp"
            raise InventoryError(host, where, problem, "stale_loss_cnt: 4")
        if key not in SYSCTLS and (hint := suggestion(str(key), SYSCTLS, 0.85)):
            raise InventoryError(host, where, f"no such setting{hint}", "stale_loss_cnt: 4")
        is_word = isinstance(setting, int | str) and not isinstance(setting, bool)
        if not is_word or not SYSCTL_VALUE.fullmatch(str(setting)):
            raise InventoryError(host, where, f"{setting!r} is not one number or word", "stale_loss_cnt: 4")


def _pattern_check(pattern: re.Pattern[str], what: str, example: str) -> Callable[[str, str, Any], None]:
    def check(host: str, name: str, value: Any) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise InventoryError(host, name, f"{value!r} is not {what}", example)

    return check


def _check_patience(host: str, name: str, value: Any) -> None:
    if isinstance(value, str) and value.startswith(
        "{{"
    ):  # the template of a lab on this machine, whose value `./lab up` measures
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= MOST_PATIENCE:
        raise InventoryError(
            host, name, f"{value!r} is not a factor from 1 to {MOST_PATIENCE}", f"{name}: 15"
        )


def _check_owner(host: str, name: str, value: Any) -> None:
    if value not in OWNERS:
        raise InventoryError(host, name, f"{value!r} is not one of {', '.join(OWNERS)}", f"{name}: kernel")


CHECKS: Mapping[str, Callable[[str, str, Any], None]] = {
    "lab_mptcp_sysctls": _check_sysctls,
    "lab_mptcp_legacy_sysctls": _check_sysctls,
    "lab_congestion_control": _pattern_check(CONGESTION_CONTROL, "a congestion control's name", "cubic"),
    "lab_image": _pattern_check(IMAGE, "an image's name", "debian-13"),
    "lab_mptcp_owner": _check_owner,
    "lab_patience": _check_patience,
}
