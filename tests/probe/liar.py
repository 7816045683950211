"""The program of a host that lies: it stands between the controller and the real probe.

A host runs it instead of the command that the controller asks for. LIES names a file with a JSON object: by
operation the text that is written as its answer (``@ID@`` is the call's number), or [text, count, more]. All
other calls go to the real probe.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

WRITING = threading.Lock()


def write(lie: str, number: int, count: int = 0, more: str = "") -> None:
    """Write a lie and the end of its line; nothing comes in between."""
    with WRITING:
        sys.stdout.buffer.write(lie.replace("@ID@", str(number)).encode(errors="surrogateescape"))
        for _ in range(count):
            sys.stdout.buffer.write(more.encode())
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()


def pass_on(answers: "subprocess.Popen[bytes]") -> None:
    """Write what the real probe answers."""
    assert answers.stdout is not None
    for line in answers.stdout:
        with WRITING:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


def main() -> None:
    """Answer every call by a lie or by the real probe."""
    size = sys.stdin.buffer.readline()
    program = sys.stdin.buffer.read(int(size))
    command = ["sh", "-c", os.environ["SSH_ORIGINAL_COMMAND"]]
    real = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert real.stdin is not None
    real.stdin.write(size + program)
    real.stdin.flush()
    threading.Thread(target=pass_on, args=(real,), daemon=True).start()
    for line in sys.stdin.buffer:
        call = json.loads(line)
        lie = json.loads(Path(os.environ["LIES"]).read_text()).get(call["op"])
        if lie is None:
            real.stdin.write(line)
            real.stdin.flush()
        elif isinstance(lie, str):
            write(lie, call["id"])
        else:
            write(lie[0], call["id"], *lie[1:])
    real.stdin.close()
    real.wait()


main()
