"""Print the catalogue as Markdown: ``python -m mptcp_lab.catalogue > docs/catalogue.md``.

``python -m mptcp_lab.catalogue coverage > docs/coverage.md`` prints the comparison with other suites.
"""

from __future__ import annotations

import sys

from mptcp_lab.catalogue import coverage, markdown

PAGES = {(): markdown.render, ("coverage",): coverage.render}

if __name__ == "__main__":
    render = PAGES.get(tuple(sys.argv[1:]))
    if render is None:
        sys.exit("python -m mptcp_lab.catalogue: the only argument is `coverage`, for docs/coverage.md")
    print(render(), end="")
