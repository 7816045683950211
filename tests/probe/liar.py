"""The program of a host that sends wrong answers: it runs between the controller and the real probe.

The host's sshd runs it instead of the controller's command. The variable LIES names a file with a JSON
object. It has by operation the text to write as the answer (``@ID@`` is the call's number), or
[text, count, more] to add `more` `count` times. All other calls go to the real probe.
"""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

WRITING = threading.Lock()


def write(lie: str, number: int, count: int = 0, more: str = "") -> None:
    """Write a wrong answer and the end of its line, with no other output in between."""
    with WRITING:
        sys.stdout.buffer.write(lie.replace("@ID@", str(number)).encode(errors="surrogateescape"))
        for _ in range(count):
            sys.stdout.buffer.write(more.encode())
        sys.stdout.buffer.write(b"\n")
        sys.stdout.buffer.flush()


def pass_on(answers: "subprocess.Popen[bytes]") -> None:
    """Copy the answers of the real probe to standard output."""
    assert answers.stdout is not None
    for line in answers.stdout:
        with WRITING:
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


def main() -> None:
    """Answer every call with a wrong answer, or pass it to the real probe."""
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
