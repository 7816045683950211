"""Run the agent on a lab host: the probe or the origin service. Standard library only, Python 3.9 or newer.

`python3` runs this folder, or a zip file of it, as one program:

    python3 agent probe                  serves JSON lines on standard input and output, started over SSH
    python3 agent doctor                 serves the doctor in the same way, and changes nothing
    python3 agent origin --config FILE   runs the origin service (a systemd unit starts it)
    python3 agent endpoint ADDRESS ...   adds an MPTCP endpoint, with flags that ip(8) may not know
    python3 agent kernel-log             prints the kernel log's new lines, a JSON list per line that it reads
    python3 agent keeper                 runs the watchdog that lifts each fault when its time is over
    python3 agent lift FAULT             lifts one fault; its systemd timer runs this command
"""

import importlib
import sys

sys.exit(importlib.import_module("lab_agent.command").main(sys.argv[1:]))
