"""What runs on a lab host: the probe and the origin service. Standard library only, Python 3.9 or newer.

`python3` runs this folder, or a zip of it, as one program:

    python3 agent probe                  JSON lines on standard input and output, started over SSH
    python3 agent origin --config FILE   the origin service (a systemd unit starts it)
    python3 agent endpoint ADDRESS ...   adds an MPTCP endpoint, with flags that ip(8) may not know
    python3 agent keeper                 the dead-man that lifts faults when their time is over
    python3 agent lift FAULT             lifts one fault; the command of its systemd timer
"""

import importlib
import sys

sys.exit(importlib.import_module("lab_agent.command").main(sys.argv[1:]))
