"""The parts of the program that runs on lab hosts. All times are the host's CLOCK_MONOTONIC, in seconds.

From the bottom to the top: `basics`, `files`, `tools`, `data`; what the kernel says and is told (`kernel`);
what is captured (`capture`); what is opened (`sockets`, `streams`, `connections`, `many`, `relay`); what is
changed (`faults`, `keeper`, `lease`); the two services (`origin` and `probe`); `command`.
"""
