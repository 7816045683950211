"""Print the catalogue as Markdown: ``python -m mptcp_lab.catalogue > docs/catalogue.md``."""

from __future__ import annotations

from mptcp_lab.catalogue.markdown import render

if __name__ == "__main__":
    print(render(), end="")
