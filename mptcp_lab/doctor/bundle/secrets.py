"""Remove secrets from what a bundle holds. Pure.

Secrets are values whose name says so (password, token, key...), private keys, credentials in URLs and
headers, values of environment variables other than those that decide about MPTCP, and long random words.
MPTCP's own tokens stay: they are on the wire in clear, and nobody joins a connection with a token alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

REMOVED = "[removed]"
#: Environment variables whose values stay: they decide whether a program uses MPTCP.
TELLING = ("LD_PRELOAD", "LD_LIBRARY_PATH", "GODEBUG", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID")
NAMED = (
    r"[\w.-]*(?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|authorization|credential|private[_-]?key"
    r"|fastopen_key|psk)"
)
VALUE = r"(?:\"[^\"]*\"|'[^']*'|[^\s\"',;=:-][^\s\"',;]*)"
PEM = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.DOTALL
)
PATTERNS = (
    (PEM, REMOVED),
    (re.compile(r"(?i)(\b(?:basic|bearer|digest|negotiate)\s+)[A-Za-z0-9+/=._~-]{6,}"), rf"\1{REMOVED}"),
    (re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@\"']+@"), rf"\1{REMOVED}@"),
    (
        re.compile(r"(?i)^(\s*(?:Set|Load)Credential(?:Encrypted)?=[^:\n]*:).*$", re.MULTILINE),
        rf"\1{REMOVED}",
    ),
    (re.compile(rf"(?i)((?:\b|--?){NAMED}[\w-]*[\"']?\s*[=:]\s*){VALUE}"), rf"\1{REMOVED}"),
    (
        re.compile(rf"(?i)((?:--?{NAMED}[\w-]*|\b(?:password|passwd|secret|token|psk))\s+){VALUE}"),
        rf"\1{REMOVED}",
    ),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+){1,2}"), REMOVED),
    (re.compile(r"\b(?:[0-9a-fA-F]{2}){16,}\b"), REMOVED),
    (
        re.compile(r"(?<![\w+/=-])(?=[\w+-]*[a-z])(?=[\w+-]*[A-Z])(?=[\w+-]*\d)[\w+-]{28,}={0,2}(?![\w/])"),
        REMOVED,
    ),
)
ENVIRONMENT_LINE = re.compile(r"^(\s*(?:Pass)?Environment=)(.*(?:\\\n.*)*)$", re.MULTILINE)
#: Readings whose tokens are those of MPTCP connections, and which have no secrets of programs.
ABOUT_SOCKETS = frozenset({"sockets", "client_events", "server_events"})


def remove_secrets(text: str) -> str:
    """Return a text without secrets."""
    text = ENVIRONMENT_LINE.sub(lambda found: found[1] + clean_environment(found[2]), text)
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def clean_environment(assignments: str) -> str:
    """Return the assignments of an environment, values removed but for those of `TELLING`."""
    names = re.findall(r"(?:^|(?<=[\s\"']))([A-Za-z_]\w*)=", assignments)
    kept = []
    for name in names:
        found = re.search(rf"(?<!\w){name}=([^\s\"']*)", assignments)
        kept.append(f"{name}={found[1] if found and name in TELLING else REMOVED}")
    return " ".join(kept)


def clean_document(value: Any, name: str = "") -> Any:
    """Return a document (objects, lists, texts, numbers) without secrets; ``name`` is its key."""
    if isinstance(value, Mapping):
        if name == "environment":
            return {key: text if key in TELLING else REMOVED for key, text in value.items()}
        return {key: _clean_member(key, each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        if name == "arguments":
            return clean_arguments(value)
        return [clean_document(each, name) for each in value]
    if not isinstance(value, str) or name in ABOUT_SOCKETS:
        return value
    return clean_environment(value) if name == "environment" else remove_secrets(value)


def _clean_member(key: str, value: Any) -> Any:
    """Return a member of an object without secrets: all of it, where its name says so (a sysctl's key)."""
    is_secret = isinstance(value, str) and re.fullmatch(rf"(?i){NAMED}[\w-]*", key)
    return REMOVED if is_secret else clean_document(value, key)


def clean_arguments(arguments: list[Any] | tuple[Any, ...]) -> list[Any]:
    """Return a command's arguments without secrets; the one after ``--password`` is one too."""
    cleaned: list[Any] = []
    is_next = False
    for each in arguments:
        cleaned.append(REMOVED if is_next else remove_secrets(str(each)))
        is_next = re.fullmatch(rf"(?i)--?{NAMED}[\w-]*", str(each)) is not None
    return cleaned
