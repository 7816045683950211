"""Write each role's README from its argument specs and examples: `python -m mptcp_lab.docs_roles [--check]`.

``--check`` changes nothing and exits 1 if a README differs from the specs of its role.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTICE = (
    "<!-- Written from meta/argument_specs.yml and examples.yml by `python -m mptcp_lab.docs_roles`; "
    "edit it there. -->"
)


def readme(name: str, specs: Mapping[str, Any], examples: str = "") -> str:
    """Return the README of role `name`.

    `specs` is the content of its meta/argument_specs.yml, `examples` the text of its examples.yml.
    """
    entries = [_entry_point(name, entry, spec) for entry, spec in specs["argument_specs"].items()]
    return f"# {name}\n\n{NOTICE}\n" + "".join(entries) + _examples(name, examples)


def _examples(role: str, text: str) -> str:
    """Return the section that shows a role's example plays."""
    if not text:
        return ""
    plays = re.split(r"(?m)^(?=- )", text.removeprefix("---\n").rstrip())[1:]
    blocks = "".join(f"\n```yaml\n{play.rstrip()}\n```\n" for play in plays)
    command = f"ansible-playbook -i inventories/NAME roles/{role}/examples.yml --check"
    return f"\n## Examples\n\n`{command}` shows what these plays would change.\n{blocks}"


def _entry_point(role: str, entry: str, spec: Mapping[str, Any]) -> str:
    heading = "" if entry == "main" else f"\n## {role}, entry point `{entry}`\n"
    prose = "\n\n".join([f"{spec['short_description']}.", *map(_markdown, spec["description"])])
    rows = "".join(_rows(spec.get("options", {})))
    table = f"\n| variable | type | default | meaning |\n| --- | --- | --- | --- |\n{rows}" if rows else ""
    return f"{heading}\n{prose}\n{table}"


def _rows(options: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Yield one table row per option; a nested one is named `outer[].inner`."""
    for name, option in options.items():
        full = within + name
        is_list = option["type"] == "list"
        kind = f"list of {option['elements']}" if is_list else option["type"]
        yield f"| `{full}` | {kind} | {_default(option)} | {_meaning(option)} |\n"
        yield from _rows(option.get("options", {}), f"{full}{'[]' if is_list else ''}.")


def _default(option: Mapping[str, Any]) -> str:
    if option.get("required"):
        return "required"
    default = option.get("default")
    if isinstance(default, str) and "C(" in default:
        return _markdown(default)
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if default in (None, "") else f"`{default}`"


def _meaning(option: Mapping[str, Any]) -> str:
    choices = ", ".join(f"`{choice}`" for choice in option.get("choices", []))
    return _markdown(option["description"]) + (f" One of {choices}." if choices else "")


def _markdown(text: str) -> str:
    """Turn Ansible's C(code) into Markdown's."""
    return re.sub(r"C\(((?:[^()]|\([^()]*\))*)\)", r"`\1`", text.strip())


def main(arguments: list[str] | None = None) -> int:
    """Write the README of every role, or compare it with ``--check``; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m mptcp_lab.docs_roles", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, exit 1 on a difference")
    check = parser.parse_args(arguments).check
    stale = []
    for specs in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        role = specs.parents[1]
        examples = role / "examples.yml"
        shown = examples.read_text() if examples.exists() else ""
        text = readme(role.name, yaml.safe_load(specs.read_text()), shown)
        target = role / "README.md"
        if not target.exists() or target.read_text() != text:
            stale.append(str(target.relative_to(ROOT)))
            if not check:
                target.write_text(text)
    if stale and check:
        names = ", ".join(stale)
        print(f"not as their specs say: {names}; run python -m mptcp_lab.docs_roles", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
