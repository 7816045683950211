"""Build escaped SVG elements. A colour is a CSS class, so that the page's theme selects the real colour."""

from __future__ import annotations

import math
from html import escape

from mptcp_lab.text import make_printable

PALETTE = 6


def tag(name: str, content: str = "", /, **attributes: object) -> str:
    """Return an element; ``content`` must be escaped already, and ``text_anchor`` becomes text-anchor."""
    pairs = (f' {key.rstrip("_").replace("_", "-")}="{_value(v)}"' for key, v in attributes.items())
    return f"<{name}{''.join(pairs)}>{content}</{name}>"


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> str:
    """Return a text element; ``content`` is made printable and escaped here."""
    return tag("text", escape(make_printable(content)), x=x, y=y, class_=class_, text_anchor=anchor)


def colour(label: str, labels: list[str]) -> str:
    """Return the colour class of a label, which depends on its index in ``labels`` only."""
    return f"c{labels.index(label) % PALETTE}" if label in labels else "c-other"


def ticks(low: float, high: float, about: int) -> list[float]:
    """Return about ``about`` round values between two figures, for the labels of an axis."""
    if high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [number * step for number in range(first, math.floor(high / step) + 1)]


def _value(value: object) -> str:
    return (
        f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escape(make_printable(str(value)))
    )
