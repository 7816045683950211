"""``python -m mptcp_lab.doctor``: print the tables of rules that docs/troubleshooting.md shows."""

from mptcp_lab.doctor.page import render

if __name__ == "__main__":
    print(render(), end="")
