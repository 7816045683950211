"""The table of engines: whatever else has to name an engine agrees with it, and nothing else names one."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mptcp_lab.inventory.engines import ENGINES, PROXIES, Engine, Proxy
from mptcp_lab.paths import ROOT
from mptcp_lab.suite.proxy.engines import SESSIONS
from mptcp_lab.suite.security.access_rules import CONFIGURATIONS, LISTEN, OPTIONS
from mptcp_lab.suite.state.units import engine_of

SYSTEMS = sorted((ROOT / "roles/system/systems").glob("*.yml"))
#: Folders with code. Roles, templates, inventories, docs and tests name engines freely.
SEARCHED = ("mptcp_lab", "playbooks", "plugins", "conformance", "bench", "fuzz", "examples", ".ci")
CODE = (".py", ".yml", ".sh", ".toml", ".json")
#: What may name an engine there, because it holds what is the engine's own.
OWN = (
    "mptcp_lab/inventory/engines.toml",
    "mptcp_lab/suite/proxy/engines.py",  # how an engine counts connections
    "mptcp_lab/suite/security/access_rules.py",  # a configuration with an access rule
    "mptcp_lab/render/scratch.sh",  # what its package's install script does
    "plugins/modules/host_record.py",  # records versions of programs; it is one file, which reads no other
    "mptcp_lab/agent/lab_agent/examine",  # what the doctor reads of programs, in and outside labs
    "mptcp_lab/doctor",  # what goes wrong with programs in the field
    "mptcp_lab/catalogue",  # claims and corrections
    "playbooks/proxies.yml",  # gives a role the services of its engine
)
NAME = re.compile("|".join(PROXIES), re.IGNORECASE)


def tasks(role: str) -> dict[str, Any]:
    """Return the variables with which a proxy's role calls role mptcp_service."""
    steps = yaml.safe_load((ROOT / "roles" / role / "tasks/main.yml").read_text())
    (found,) = (step["vars"] for step in steps if "mptcp_service_unit" in step.get("vars", {}))
    return dict(found)


@pytest.mark.parametrize("proxy", PROXIES.values(), ids=lambda each: each.name)
def test_the_role_of_a_proxy_agrees(proxy: Proxy) -> None:
    (role,) = proxy.roles
    given, files = tasks(role), (ROOT / "roles" / role / "vars/main.yml").read_text()
    assert given["mptcp_service_unit"] == f"{proxy.unit}.service"
    assert given["mptcp_service_says"] == proxy.program.version_pattern
    assert proxy.program.configuration in str(given) + files
    assert role in given["mptcp_service_owner"]
    written = (ROOT / "roles" / role / "tasks/main.yml").read_text()
    assert all(f"source_build_owner: {owner}\n" in written for owner in proxy.roles_by_variable.values())


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda path: path.stem)
def test_every_system_names_the_packages_of_every_proxy(system: Path) -> None:
    described = yaml.safe_load(system.read_text())
    assert [name for name in PROXIES if not described[name]["packages"]] == []


def test_the_playbook_runs_the_role_of_every_proxy() -> None:
    (play,) = yaml.safe_load((ROOT / "playbooks/proxies.yml").read_text())
    runs = {each["role"]: str(each) for each in play["roles"]}
    for name, proxy in PROXIES.items():
        assert f"of_engine('{name}')" in runs[proxy.roles[0]]


@pytest.mark.parametrize("playbook", ["proxies", "origins"])
def test_playbooks_give_roles_the_addresses_of_these_segments(playbook: str) -> None:
    text = (ROOT / "playbooks" / f"{playbook}.yml").read_text()
    kinds = {
        str(list(each.listens_on)) for each in ENGINES.values() if playbook in each.groups and each.listens_on
    }
    assert kinds == set(re.findall(r"lab_addresses\(lab_segments, (\[.*?\])\)", text))


def test_connections_of_every_proxy_can_be_counted() -> None:
    assert set(SESSIONS) == set(PROXIES)


def test_every_proxy_can_be_run_with_an_access_rule() -> None:
    assert set(CONFIGURATIONS) == set(OPTIONS) == set(LISTEN) == set(PROXIES)


@pytest.mark.parametrize("engine", ENGINES.values(), ids=lambda each: each.name)
def test_a_unit_is_known_by_its_engine(engine: Engine) -> None:
    assert engine_of(engine.unit_of("test1")) == engine.name


def named(path: Path) -> list[str]:
    """Return the places in which a file names a proxy; comments, and docstrings of Python, are texts."""
    text = path.read_text()
    if path.suffix != ".py":
        lines = enumerate((re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines()), 1)
        return [
            f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
            for number, line in lines
            if NAME.search(line)
        ]
    return [
        f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}"
        for token in words(text)
        if NAME.search(token.string)
    ]


def words(text: str) -> Iterator[tokenize.TokenInfo]:
    """Yield the tokens of a Python text without comments, docstrings and the documentation of modules."""
    begins = True
    text = re.sub(r'(?ms)^(DOCUMENTATION|RETURN) = """.*?^"""', "", text)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT):
            begins = True
        elif token.type not in (tokenize.COMMENT, tokenize.NL):
            if not (begins and token.type == tokenize.STRING):
                yield token
            begins = False


def test_no_other_file_names_a_proxy() -> None:
    files = [
        path
        for each in SEARCHED
        if (ROOT / each).exists()
        for path in (ROOT / each, *(ROOT / each).rglob("*"))
    ]
    own = [ROOT / each for each in OWN]
    found = [
        place
        for path in files
        if path.suffix in CODE and not {path, *path.parents} & set(own)
        for place in named(path)
    ]
    assert found == []


def test_a_name_in_code_is_found_and_in_a_text_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.inventory.test_engines.ROOT", tmp_path)
    program, settings = tmp_path / "a.py", tmp_path / "a.yml"
    program.write_text(
        '"""Ask nginx."""\n\n# nginx\nx = f"{1} nginx"\n\ndef f():\n    """Ask nginx."""\n    nginx()\n'
    )
    settings.write_text("a: 1  # nginx\nb: nginx\n")
    assert [line.partition(":")[2].partition(":")[0] for line in named(program)] == ["4", "8"]
    assert named(settings) == ["a.yml:2: b: nginx"]
