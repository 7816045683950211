"""`./lab render`: what the playbooks would write, the same bytes each time, read by the real programs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mptcp_lab.errors import LabError
from mptcp_lab.inventory import load
from mptcp_lab.labs.containers import image
from mptcp_lab.paths import ROOT
from mptcp_lab.render import File, render
from mptcp_lab.render.__main__ import main, write
from mptcp_lab.render.validate import Reading, validate
from tests.labs import build_root_filesystem

EXAMPLE = ROOT / "inventories/hardware.example"


@pytest.fixture(scope="module")
def files() -> list[File]:
    """The files that the example inventory renders."""
    return render(load(EXAMPLE))


@pytest.fixture(scope="module")
def real_programs() -> None:
    """Provide the programs of the hosts, whether or not a lab has been up in this checkout."""
    build_root_filesystem()


def readings(files: list[File], tree: Path, inventory: Path = EXAMPLE) -> dict[str, Reading]:
    write(tree, files)
    return {f"{r.file.host}:{r.file.path}": r for r in validate(load(inventory), files, tree)}


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, folder))


def test_two_inventories_differ_in_what_they_say_and_in_no_other_byte(
    files: list[File], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copied(tmp_path / "another/place")
    hosts = copy / "hosts.yml"
    text = hosts.read_text().replace("port: 7100", "port: 7111")
    hosts.write_text(
        text.replace("        proxy1:\n", "        proxy1:\n          lab_render_system: rhel-9\n")
    )
    for name, value in {"TZ": "Asia/Kolkata", "LC_ALL": "C.UTF-8", "USER": "else"}.items():
        monkeypatch.setenv(name, value)
    changed = {(new.host, new.path): new.content for new in set(render(load(copy))) - set(files)}
    assert sorted(changed) == [
        ("proxy1", "/etc/haproxy/haproxy.cfg"),
        ("proxy1", "/etc/nginx/nginx.conf"),
        ("proxy1", "/etc/systemd/system/nginx.service.d/mptcp-lab.conf"),
    ]
    assert "user nginx;" in changed["proxy1", "/etc/nginx/nginx.conf"]
    assert ":7111;" in changed["proxy1", "/etc/nginx/nginx.conf"]


def test_auto_follows_what_the_proxies_say_of_their_versions(tmp_path: Path) -> None:
    copy = copied(tmp_path / "rack")
    hosts = copy / "hosts.yml"
    said = "lab_render_versions: HAProxy version 3.1.0 2024/11/26, nginx version nginx/1.29.6"
    hosts.write_text(hosts.read_text().replace("        proxy1:\n", f"        proxy1:\n          {said}\n"))
    rendered = {file.path: file.content for file in render(load(copy)) if file.host == "proxy1"}
    assert "bind mptcp4@198.18.1.21:7000\n" in rendered["/etc/haproxy/haproxy.cfg"]
    assert "LD_PRELOAD" not in rendered["/etc/systemd/system/haproxy.service.d/mptcp-lab.conf"]
    assert "listen 198.18.1.21:7100;\n" in rendered["/etc/nginx/nginx.conf"]
    assert "LD_PRELOAD" in rendered["/etc/systemd/system/nginx.service.d/mptcp-lab.conf"]


def test_auto_beside_a_plain_listener_needs_a_program_that_can(tmp_path: Path) -> None:
    copy = copied(tmp_path / "rack")
    hosts = yaml.safe_load((copy / "hosts.yml").read_text())
    services = hosts["all"]["children"]["proxies"]["hosts"]["proxy1"]["lab_services"]
    services.append({**services[0], "name": "plain", "port": 7001, "mptcp": "off"})
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts))
    with pytest.raises(LabError, match="auto means preload here"):
        render(load(copy))


@pytest.mark.parametrize(("version", "prefix"), [("3.0.11", None), ("3.1.0", "mptcp4@")])
def test_mptcp_to_a_backend_needs_a_version_that_has_it(
    tmp_path: Path, version: str, prefix: str | None
) -> None:
    copy = copied(tmp_path / "rack")
    hosts = yaml.safe_load((copy / "hosts.yml").read_text())
    proxies = hosts["all"]["children"]["proxies"]["hosts"]
    services = proxies["proxy1"]["lab_services"]
    backend = {"host": "server1", "service": "origin", "mptcp": "native"}
    services[:] = [{**services[0], "mptcp": "off", "backends": [backend]}]
    proxies["proxy1"]["lab_render_versions"] = f"HAProxy version {version}"
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts))
    if prefix is None:
        with pytest.raises(LabError, match=r"haproxy has from 3.1 on, and version 3.0.11 is installed"):
            render(load(copy))
    else:
        texts = {file.path: file.content for file in render(load(copy)) if file.host == "proxy1"}
        assert f"server t1 {prefix}198.18.1.31:7000" in texts["/etc/haproxy/haproxy.cfg"]


@pytest.mark.usefixtures("real_programs")
def test_the_real_programs_read_it(files: list[File], tmp_path: Path) -> None:
    found = readings(files, tmp_path / "tree")
    assert [r for r in found.values() if r.complaint] == []
    assert {r.program for r in found.values() if r.program} >= {"haproxy", "nginx", "sh", "systemd-analyze"}
    unread = {Path(r.file.path) for r in found.values() if not r.program}  # files in the form of sysctl.d(5)
    assert {path for path in unread if path.parent.name != "sysctl.d"} == {
        Path("/etc/mptcp-lab/gateway.conf")
    }


#: Path on proxy1, what of its text becomes what, and a word of the complaint.
MISTAKES = [
    ("/etc/haproxy/haproxy.cfg", "timeout connect 5000", "timeout connect soon", "unexpected character"),
    ("/etc/nginx/nginx.conf", "proxy_pass", "proxy_past", "proxy_past"),
    ("/etc/systemd/system/haproxy.service.d/mptcp-lab.conf", "[Unit]", "[Unit]\nWishes=x", "Wishes"),
    ("/etc/systemd/system/mptcp-lab-mptcp.service", "ExecStart=ip", "ExecStart=ipp", "ipp"),
    ("/usr/local/sbin/mptcp-lab-network", "set -eu", "set -eu\nif", "yntax"),
    ("/etc/some.nft", "", "table inet t { chain c { type nat hook nowhere priority 0; } }", "nowhere"),
    ("/etc/some.json", "", "{", "Expecting"),
]


@pytest.mark.usefixtures("real_programs")
def test_every_mistake_is_refused_by_its_program(files: list[File], tmp_path: Path) -> None:
    right = {file.path: file for file in files if file.host == "proxy1"}
    broken = dict(right)
    for path, old, new, _ in MISTAKES:
        file = right.get(path) or File("proxy1", path, "0644", "")
        assert old in file.content
        broken[path] = replace(file, content=file.content.replace(old, new, 1))
    found = readings([*broken.values()], tmp_path / "tree")
    for path, _, _, word in MISTAKES:
        assert word in found[f"proxy1:{path}"].complaint
    assert {r.file.path for r in found.values() if r.complaint} == {path for path, *_ in MISTAKES}


def test_without_an_image_what_is_missing_is_named(
    files: list[File], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "present", lambda _: False)
    monkeypatch.setenv("PATH", f"{ROOT}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    found = readings([f for f in files if f.host == "proxy1"], tmp_path / "tree")
    assert found["proxy1:/usr/local/sbin/mptcp-lab-network"].program == "sh"
    expected = "" if shutil.which("haproxy") else "haproxy is not installed"
    assert found["proxy1:/etc/haproxy/haproxy.cfg"].why == expected


def test_a_folder_with_something_else_in_it_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main([str(tmp_path), "--inventory", str(EXAMPLE)]) == 4
    assert "name a new or empty folder" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_inventory_that_a_role_refuses_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = copied(tmp_path / "copy")
    document = yaml.safe_load((copy / "hosts.yml").read_text())
    service = document["all"]["children"]["proxies"]["hosts"]["proxy1"]["lab_services"][0]
    document["all"]["children"]["proxies"]["hosts"]["proxy1"]["lab_services"].append(
        {**service, "name": "mixed", "port": 7009, "mptcp": "off"}
    )
    (copy / "hosts.yml").write_text(yaml.safe_dump(document))
    assert main([str(tmp_path / "out"), "--inventory", str(copy)]) == 4
    said = capsys.readouterr().err
    assert "mixes mptcp" in said
    assert "Traceback" not in said
