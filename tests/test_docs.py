"""What the documentation shows of the project's code is that code."""

import re

import pytest

from mptcp_lab.paths import ROOT

PAGE = (ROOT / "docs" / "dev" / "writing-a-check.md").read_text()
CHECKS = "".join(path.read_text() for path in sorted((ROOT / "conformance").rglob("test_*.py")))


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
def test_the_page_on_writing_a_check_shows_a_real_one(example: str) -> None:
    assert example in CHECKS


def test_links_lead_somewhere() -> None:
    """Relative links of all pages name files that are there."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
