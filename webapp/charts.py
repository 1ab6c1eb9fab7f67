"""Small charts as inline SVG, drawn on the server: no script, no style attribute, no request.

Colours come from classes (static/css/charts.css). A chart is a picture with a name; the page shows
the same numbers in a table beside it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 320.0, 170.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 38.0, 8.0, 10.0, 22.0


@dataclass(frozen=True)
class Line:
    """A horizontal line across a chart, such as a limit."""

    value: float
    text: str


def line_chart(
    points: Sequence[tuple[str, float | None]],
    *,
    name: str,
    lines: Sequence[Line] = (),
    top: float = 1.0,
) -> Markup:
    """Values over time; None leaves a gap.

    Args:
        points: (label, value from 0), in order.
        name: what it shows, for those who do not see it.
        top: the axis reaches this value at least.
    """
    values = [value for _label, value in points if value is not None]
    high = max([top, *values, *(line.value * 1.1 for line in lines)])
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(points) - 1)
    places = [
        (_LEFT + number * step, _y(value, high))
        for number, (_label, value) in enumerate(points)
        if value is not None
    ]
    parts = [*_axes(high), *(_limit(line, high) for line in lines)]
    runs = _runs([value is not None for _label, value in points])
    positions = iter(places)
    for length in runs:
        run = [next(positions) for _number in range(length)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
        parts.append(f'<polyline class="chart-line" points="{path}"/>')
    parts += [f'<circle class="chart-dot" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in places]
    if points:
        parts.append(_text(_LEFT, _HEIGHT - 6, points[0][0], "start"))
    if len(points) > 1:
        parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 6, points[-1][0], "end"))
    return _svg(name, _WIDTH, _HEIGHT, parts)


def reliability_diagram(
    bins: Sequence[tuple[float, float, int]], *, name: str, across: str, up: str
) -> Markup:
    """What was promised against what came true; on the diagonal both are the same.

    Args:
        bins: (mean probability given, share right, slices); larger dots stand for more slices.
        across, up: words for the axes.
    """
    side, left, bottom = 260.0, 40.0, 36.0
    total = sum(n for _given, _right, n in bins) or 1

    def place(given: float, right: float) -> tuple[float, float]:
        return left + given * side, 10 + (1 - right) * side

    start, end = place(0, 0), place(1, 1)
    parts = [
        f'<rect class="chart-frame" x="{left}" y="10" width="{side}" height="{side}"/>',
        f'<line class="chart-limit" x1="{start[0]}" y1="{start[1]}" x2="{end[0]}" y2="{end[1]}"/>',
    ]
    for share in (0, 0.5, 1):
        x, y = place(share, share)
        parts.append(_text(left - 5, y + 3, f"{share:.0%}", "end"))
        parts.append(_text(x, 10 + side + 14, f"{share:.0%}", "middle"))
    for given, right, n in bins:
        x, y = place(given, right)
        radius = 3 + 9 * (n / total) ** 0.5
        parts.append(f'<circle class="chart-dot" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"/>')
    parts.append(_text(left + side / 2, 10 + side + 30, across, "middle"))
    parts.append(_text(left, 7, up, "start"))
    return _svg(name, left + side + 20, side + 10 + bottom, parts)


def _axes(high: float) -> Iterable[str]:
    for share in (0, 0.5, 1):
        y = _y(high * share, high)
        yield (
            f'<line class="chart-grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" '
            f'y2="{y:.1f}"/>'
        )
        yield _text(_LEFT - 5, y + 3, f"{high * share:.2g}", "end")


def _limit(line: Line, high: float) -> str:
    y = _y(line.value, high)
    return (
        f'<line class="chart-limit" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>'
        + _text(_WIDTH - _RIGHT, y - 3, line.text, "end")
    )


def _runs(present: Iterable[bool]) -> list[int]:
    """Lengths of the runs without a gap."""
    runs, length = [], 0
    for one in present:
        if one:
            length += 1
        elif length:
            runs.append(length)
            length = 0
    return [*runs, length] if length else runs


def _y(value: float, high: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / max(high, 1e-9)


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f'<text class="chart-text" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _svg(name: str, width: float, height: float, parts: Iterable[str]) -> Markup:
    # Everything in the parts is a number or has been escaped.
    return Markup(  # noqa: S704
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" dir="ltr" '
        f'aria-label="{escape(name)}">{"".join(parts)}</svg>'
    )
