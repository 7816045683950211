"""Parse the YAML of locks: without aliases, duplicate keys or deep nesting."""

from __future__ import annotations

from typing import Any

import yaml

from mptcp_lab.text import shorten, to_one_line
from mptcp_lab.untrusted import TOO_DEEP, Malformed, check_depth


def parse_yaml(text: str) -> Any:
    """Return the document in a YAML text.

    Raises:
        Malformed: the text is not YAML, or has an alias, a duplicate key or too deep nesting.
    """
    try:
        document = yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader that refuses more
    except RecursionError:
        raise Malformed(TOO_DEEP) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        problem = to_one_line(error.problem or error.context or "unreadable")
        raise Malformed(f"cut short or edited: it is not YAML ({line}{problem})") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise Malformed(
            f"cut short or edited: it is not YAML ({to_one_line(str(error)).partition(chr(92) + 'n')[0]})"
        ) from None
    check_depth(document)
    return document


class _Loader(yaml.SafeLoader):
    """A safe YAML loader that refuses aliases and duplicate keys, which no lock needs."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call] # PyYAML has no types for it
            raise yaml.composer.ComposerError(
                None, None, "it has an alias, which mptcp-lab never writes", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                problem = f"key {shorten(key.value)} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)
