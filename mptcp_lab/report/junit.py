"""Render a run as JUnit XML for CI servers."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from mptcp_lab.results.result import Check, Result
from mptcp_lab.results.verdict import Verdict
from mptcp_lab.text import make_printable

ELEMENTS = {
    Verdict.FAIL: "failure",
    Verdict.INCONCLUSIVE: "error",
    Verdict.UNSUPPORTED: "skipped",
    Verdict.NON_STRICT: "skipped",
}


def render(result: Result) -> str:
    """Return the XML document, with one test suite per family and one test case per check.

    JUnit has fewer verdicts than the suite. An inconclusive check is an error. Unsupported and non-strict
    checks are skipped, and ``type`` distinguishes them. A flaky check has passed and has a property. The
    properties of a suite name each cause of checks that did not pass once, with their number in the run.
    """
    root = ET.Element("testsuites", name="mptcp-lab")
    for family in dict.fromkeys(check.family for check in result.checks):
        root.append(_suite(result, family, [check for check in result.checks if check.family == family]))
    _clean(root)
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(result: Result, family: str, checks: list[Check]) -> ET.Element:
    elements = [ELEMENTS.get(check.verdict) for check in checks]
    suite = ET.Element(
        "testsuite",
        name=f"mptcp-lab.{family}",
        timestamp=result.started,
        tests=str(len(checks)),
        failures=str(elements.count("failure")),
        errors=str(elements.count("error")),
        skipped=str(elements.count("skipped")),
        time=f"{sum(check.duration for check in checks):.3f}",
    )
    if mine := [cause for cause in result.causes if {check.case for check in checks} & {*cause.cases}]:
        properties = ET.SubElement(suite, "properties")
        for number, cause in enumerate(mine, 1):
            ET.SubElement(properties, "property", name=f"cause {number}", value=str(cause))
    suite.extend(_case(check) for check in checks)
    return suite


def _case(check: Check) -> ET.Element:
    case = ET.Element("testcase", classname=f"mptcp-lab.{check.family}", name=check.case)
    case.set("time", f"{check.duration:.3f}")
    properties = ET.SubElement(case, "properties")
    facts = {"verdict": check.verdict.value, "level": check.level.value, "source": check.source}
    facts |= {figure.name: f"{figure.value:.10g} {figure.unit}".strip() for figure in check.figures}
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=name, value=value)
    if element := ELEMENTS.get(check.verdict):
        mark = ET.SubElement(case, element, type=check.verdict.value, message=check.reason)
        lines = [f"{check.level.value}: {check.claim}", check.where, check.next_step]
        if check.diagnosis:
            lines += [f"cause: {check.diagnosis}", f"next: {check.diagnosis.next_step}"]
        mark.text = "\n".join(lines).strip()
    return case


def _clean(root: ET.Element) -> None:
    """Make every text of the document printable: XML does not allow most control characters."""
    for element in root.iter():
        for name, value in element.items():
            element.set(name, make_printable(value))
        element.text = make_printable(element.text or "")
