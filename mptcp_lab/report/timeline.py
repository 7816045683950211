"""Draw a figure over time as SVG, such as bytes per path, with the marks of a fault and the gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from mptcp_lab.report import svg
from mptcp_lab.results.result import number
from mptcp_lab.text import make_printable

WIDTH, HEIGHT = 860, 268
LEFT, RIGHT, TOP, BOTTOM = 66, 92, 46, 34
POINTS = 400
MARK_ROWS = 2
#: Maximum width of a gap's label, in SVG units.
LABEL_WIDTH = 86

Point = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """The mapping from seconds and values to positions in the picture."""

    start: float
    end: float
    peak: float

    def x(self, seconds: float) -> float:
        """Return the horizontal position of a time in seconds."""
        return LEFT + (seconds - self.start) / (self.end - self.start) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        return HEIGHT - BOTTOM - value / self.peak * (HEIGHT - TOP - BOTTOM)


def timeline(content: Mapping[str, Any], paths: Sequence[str] = ()) -> str:
    """Return a timeline document as SVG; ``paths`` are the lab's paths, which have fixed colours."""
    series: dict[str, list[Point]] = {
        label: _sort_points(points) for label, points in content["series"].items()
    }
    labels = [*paths, *(label for label in series if label not in paths)]
    frame = _frame(series, content["marks"], content.get("gap"))
    amount = _amount(content.get("unit", "bytes"), frame.peak)
    parts = [_gap(frame, content.get("gap")), _axes(frame, amount)]
    parts += [_curve(frame, points, svg.colour(label, labels)) for label, points in series.items()]
    parts += [_ends(frame, series, labels), _marks(frame, content["marks"])]
    names = ", ".join(series)
    title = svg.tag("title", escape(make_printable(f"{content.get('unit', 'bytes')} over time: {names}")))
    return svg.tag(
        "svg", title + "".join(parts), class_="timeline", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img"
    )


def _sort_points(points: Sequence[Sequence[float]]) -> list[Point]:
    return sorted((float(seconds), float(value)) for seconds, value in points)


def _frame(series: Mapping[str, list[Point]], marks: Sequence[Any], gap: Sequence[float] | None) -> Frame:
    moments = [seconds for points in series.values() for seconds, _ in points]
    moments += [float(mark[0]) for mark in marks] + list(gap or ())
    start, end = min(moments, default=0.0), max(moments, default=1.0)
    peak = max((value for points in series.values() for _, value in points), default=1.0)
    return Frame(start, end if end > start else start + 1.0, (peak if peak > 0 else 1.0) * 1.04)


def _amount(unit: str, peak: float) -> Callable[[float], str]:
    """Return a function that formats a value; bytes get the unit that suits the largest value, ``peak``."""
    if unit != "bytes":
        return lambda value: f"{value:.6g} {unit}".rstrip()
    power = next((p for p in (3, 2, 1) if peak >= 1000**p), 0)
    name = ("B", "kB", "MB", "GB")[power]
    return lambda value: f"{value / 1000**power:.4g} {name}" if value else "0"


def _axes(frame: Frame, amount: Callable[[float], str]) -> str:
    parts = []
    for value in svg.ticks(0, frame.peak, 4):
        y = frame.y(value)
        parts.append(svg.tag("line", x1=LEFT, y1=y, x2=WIDTH - RIGHT, y2=y, class_="grid"))
        parts.append(svg.text(LEFT - 8, y + 4, amount(value), "small", "end"))
    for seconds in svg.ticks(frame.start, frame.end, 8):
        x = frame.x(seconds)
        parts.append(svg.tag("line", x1=x, y1=HEIGHT - BOTTOM, x2=x, y2=HEIGHT - BOTTOM + 4, class_="axis"))
        parts.append(svg.text(x, HEIGHT - BOTTOM + 18, f"{round(seconds, 6):g} s", "small", "middle"))
    base = HEIGHT - BOTTOM
    parts.append(svg.tag("line", x1=LEFT, y1=base, x2=WIDTH - RIGHT, y2=base, class_="axis"))
    return "".join(parts)


def _curve(frame: Frame, points: list[Point], kind: str) -> str:
    kept = _thin_points(points)
    places = " ".join(f"{frame.x(seconds):.1f},{frame.y(value):.1f}" for seconds, value in kept)
    return svg.tag("polyline", points=places, class_=f"curve {kind}")


def _thin_points(points: list[Point]) -> list[Point]:
    """Return about POINTS of the points at most, with the first and the last point."""
    step = -(-len(points) // POINTS) or 1
    return points[:-1:step] + points[-1:]


def _ends(frame: Frame, series: Mapping[str, list[Point]], labels: list[str]) -> str:
    """Return the curves' names at their ends, placed from the lowest curve up so that none overlap."""
    ends = sorted((frame.y(points[-1][1]), label) for label, points in series.items() if points)
    parts, floor = [], float("inf")
    for y, label in reversed(ends):
        place = min(y + 4, floor)
        floor = place - 14
        parts.append(svg.text(WIDTH - RIGHT + 8, place, label, f"label {svg.colour(label, labels)}"))
    return "".join(parts)


def _marks(frame: Frame, marks: Sequence[Any]) -> str:
    parts = []
    for order, (seconds, label) in enumerate(sorted((float(mark[0]), str(mark[1])) for mark in marks)):
        x, row = frame.x(seconds), order % MARK_ROWS
        y = TOP - 26 + 14 * row
        anchor = "end" if x > (LEFT + WIDTH - RIGHT) * 0.6 else "start"
        shift = -5 if anchor == "end" else 5
        parts.append(svg.tag("line", x1=x, y1=y - 9, x2=x, y2=HEIGHT - BOTTOM, class_="mark"))
        parts.append(svg.text(x + shift, y, label, "small marked", anchor))
    return "".join(parts)


def _gap(frame: Frame, gap: Sequence[float] | None) -> str:
    if not gap:
        return ""
    start, end = frame.x(gap[0]), frame.x(gap[1])
    width = max(end - start, 1.5)
    height = HEIGHT - TOP - BOTTOM
    band = svg.tag("rect", x=start, y=TOP, width=width, height=height, class_="gap")
    label = f"gap {number(round((gap[1] - gap[0]) * 1000, 1))} ms"
    return band + _gap_label(start, start + width, label)


def _gap_label(start: float, end: float, label: str) -> str:
    """Return the label inside the band if it fits, else beside the band and clear of the curves' names."""
    if end - start >= LABEL_WIDTH:
        return svg.text((start + end) / 2, HEIGHT - BOTTOM - 8, label, "small marked", "middle")
    if end + LABEL_WIDTH <= WIDTH - RIGHT:
        return svg.text(end + 6, TOP + 12, label, "small marked")
    return svg.text(start - 6, TOP + 12, label, "small marked", "end")
