"""Accuracy over rounds as SVG, for light and dark ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from xml.sax.saxutils import escape

from . import data
from .judge import Verdict
from .scene import SURVIVOR, VICTIM, Plan

LEFT, TOP, WIDTH, HEIGHT = 78, 84, 470, 330
RIGHT, BOTTOM = 210, 62
MARKS = (0.0, 0.5, 0.8, 0.9, 0.95)  # logarithmic in the errors, so that what happens near 1 is seen

STYLE = """<style>
text{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;font-size:13px;fill:#1f2328}
.ground{fill:#ffffff;stroke:#d0d7de}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}.dim{fill:#59636e}
.title{font-size:18px;font-weight:600}.num{font-variant-numeric:tabular-nums;text-anchor:end}
.line{fill:none;stroke-width:2.4;stroke-linejoin:round;stroke-linecap:round}
.kill{stroke:#cf222e;stroke-width:1.4;stroke-dasharray:4 4}.killed{fill:#cf222e}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2a313c}.axis{stroke:#6e7681}
.dim{fill:#9198a1}.kill{stroke:#ff7b72}.killed{fill:#ff7b72}}
</style>
"""
# Told apart by people who see few colours, and seen on light and on dark ground (after Okabe and Ito).
COLOURS = ("#009e73", "#0072b2", "#e69f00")


def picture(plan: Plan, v: Verdict) -> str:
    lines = [("over the mesh", [r.accuracy for r in v.rounds])]
    lines += [(f"{name} alone", [r.alone[name] for r in v.rounds if name in r.alone]) for name in data.NODES]
    rounds = max(len(line) for _, line in lines)

    def x(number: float) -> float:
        return LEFT + WIDTH * (number - 1) / max(rounds - 1, 1)

    width, height, bottom = LEFT + WIDTH + RIGHT, TOP + HEIGHT + BOTTOM, TOP + HEIGHT
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
        ' aria-label="Two Flower federations over one mesh">',
        STYLE + f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        text("title", 24, 34, "Two Flower federations over one mesh"),
        text("dim", 24, 54, f"MNIST, seed {plan.seed}; each federation has mostly five of the ten digits"),
        f'<text class="dim" transform="translate(26 {TOP + HEIGHT // 2}) rotate(-90)" text-anchor="middle">accuracy, errors logarithmic</text>',
    ]
    for mark in MARKS:
        out.append(f'<path class="grid" d="M{LEFT} {y(mark):.1f}h{WIDTH}"/>' + text("dim num", LEFT - 9, y(mark) + 4, f"{mark:.2f}"))
    out.append(f'<path class="axis" d="M{LEFT} {bottom}h{WIDTH}"/>')
    for n in range(1, rounds + 1):
        out.append(f'<path class="axis" d="M{x(n):.1f} {bottom}v5"/>')
        out.append(f'<text class="dim" x="{x(n):.1f}" y="{bottom + 20}" text-anchor="middle">{n}</text>')
    out.append(f'<text class="dim" x="{LEFT + WIDTH / 2}" y="{bottom + 42}" text-anchor="middle">round</text>')
    out += kill(x(plan.kill - 0.5))
    ends = apart([y(line[-1]) for _, line in lines])
    for (name, line), colour, end in zip(lines, COLOURS, ends, strict=True):
        out.append(curve(line, colour, x, name))
        at = LEFT + WIDTH + 14
        out.append(f'<path class="line" stroke="{colour}" d="M{at} {end:.1f}h16"/>' + text("", at + 24, end + 4, f"{name} {line[-1]:.3f}"))
    return "\n".join(out) + "\n</svg>\n"


def kill(at: float) -> list[str]:
    return [
        f'<path class="kill" d="M{at:.1f} {TOP}v{HEIGHT}"/>',
        f'<text class="killed" x="{at - 8:.1f}" y="{TOP + HEIGHT - 34}" text-anchor="end">{VICTIM}\'s server and</text>',
        f'<text class="killed" x="{at - 8:.1f}" y="{TOP + HEIGHT - 16}" text-anchor="end">one of three peers killed</text>',
        text("killed", at + 8, TOP + HEIGHT - 16, f"{SURVIVOR} goes on"),
    ]


def curve(line: list[float], colour: str, x: Callable[[float], float], name: str) -> str:
    points = " ".join(f"{x(n):.1f},{y(a):.1f}" for n, a in enumerate(line, 1))
    return f'<polyline class="line" stroke="{colour}" points="{points}"><title>{escape(name)}</title></polyline>'


def apart(ends: list[float], least: float = 18) -> list[float]:
    """Heights of labels that do not overlap."""
    order = sorted(range(len(ends)), key=ends.__getitem__)
    out = list(ends)
    for before, after in pairwise(order):
        out[after] = max(out[after], out[before] + least)
    return out


def y(accuracy: float) -> float:
    share = math.log(1 - max(0.0, min(accuracy, MARKS[-1]))) / math.log(1 - MARKS[-1])
    return TOP + HEIGHT * (1 - share)


def text(kind: str, x: float, y: float, words: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(words)}</text>'
