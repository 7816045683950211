"""The modules of the agent, which runs on lab hosts. All times are the host's CLOCK_MONOTONIC, in seconds.

The layers from the bottom to the top: basic tools (`basics`, `files`, `tools`, `bus`, `data`); the interface
to the kernel (`kernel`); packet capture (`capture`); sockets and connections (`sockets`, `streams`,
`connections`, `many`, `relay`); changes to the host (`faults`, `keeper`, `lease`); the two services
(`origin`, `probe`); the command line (`command`).
"""
