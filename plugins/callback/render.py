"""Print the files that a run in check mode would write: a JSON line per file, and one per failure.

Only `mptcp_lab.render` uses this plugin, for the playbooks that it runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: render
type: stdout
short_description: Print what a run in check mode would write, as JSON lines
description:
  - Prints C({"host", "path", "mode", "content"}) for each file, and C({"host", "failed"}) for each failure.
"""


class Host(Protocol):
    """The host that a task ran on."""

    def get_name(self) -> str:
        """Return the host's name in the inventory."""


class TaskResult(Protocol):
    """The parts of a task's result that this plugin reads; Ansible's own class has no types."""

    host: Host
    task_name: str
    task_fields: Mapping[str, Any]
    result: Mapping[str, Any]


class CallbackModule(CallbackBase):
    """The callback that Ansible calls for the result of each task on each host, and of each loop item."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "render"

    def v2_runner_on_ok(self, result: TaskResult) -> None:
        """Print the files that the task would write; the arguments of `converge` hold their whole content."""
        if result.task_fields["action"] == "converge":
            for file in result.task_fields["args"].get("files", []):
                self._tell(result, path=file["path"], mode=file.get("mode", "0644"), content=file["content"])

    def v2_runner_on_failed(self, result: TaskResult, ignore_errors: bool = False) -> None:
        """Print the task that failed, with its message."""
        if not ignore_errors:
            self._tell(result, failed=f"{result.task_name}: {result.result.get('msg', 'no word of why')}")

    v2_runner_item_on_ok = v2_runner_on_ok
    v2_runner_item_on_failed = v2_runner_on_unreachable = v2_runner_on_failed

    def _tell(self, result: TaskResult, **facts: Any) -> None:
        self._display.display(json.dumps({"host": result.host.get_name(), **facts}))
