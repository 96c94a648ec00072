"""A picture of a run: accuracy over rounds with the death of a peer, and who had which digits."""

from __future__ import annotations

import math
from typing import List
from xml.sax.saxutils import escape

from .results import Results, owner

LEFT, TOP, WIDTH, HEIGHT = 76, 96, 460, 352  # of the panel with the accuracy
MAP, CELL = 646, 30  # left edge of the map of digits, width of its cells
LINES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)  # of the vertical axis

STYLE = """<style>
text{font-family:system-ui,-apple-system,"Segoe UI","Helvetica Neue",Arial,sans-serif;font-size:13px;fill:#1f2328}
.ground{fill:#fff;stroke:#d0d7de}.grid{stroke:#d8dee4}.axis{stroke:#8c959f}.dim{fill:#59636e}
.title{font-size:18px;font-weight:600}.head{font-weight:600}.end{text-anchor:end}.mid{text-anchor:middle}text.small{font-size:10px}
.line{fill:none;stroke:#0072b2;stroke-width:2.2;stroke-linejoin:round}.dot{fill:#0072b2}
.away{fill:#d55e00;fill-opacity:.13}.event{stroke:#d55e00;stroke-width:1.4}.said{fill:#b34f00}.cell{fill:#0072b2}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.ground{fill:#0d1117;stroke:#3d444d}.grid{stroke:#2a313c}.axis{stroke:#6e7681}.dim{fill:#9198a1}
.line{stroke:#56b4e9}.dot{fill:#56b4e9}.said{fill:#ff9a57}.cell{fill:#56b4e9}}
</style>"""


def draw(r: Results) -> str:
    width, height = MAP + 10 * CELL + 76, TOP + HEIGHT + 62
    title = "MNIST with PyTorch over a mesh, one peer killed" if r.death else "MNIST with PyTorch over a mesh"
    about = f"{len(r.views)} peers, {r.combiners} combiners, {len(r.split)} clients, Dirichlet {r.alpha:g}, seed {r.seed}"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(title)}">',
        STYLE,
        f'<rect class="ground" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="8"/>',
        text("title", 24, 34, title),
        text("dim", 24, 56, about),
        *_curve(r),
        *_map(r),
        "</svg>\n",
    ]
    return "\n".join(out)


def across(round: float, rounds: int) -> float:
    return LEFT + WIDTH * round / max(rounds, 1)


def up(accuracy: float) -> float:
    """Logarithmic in the share of errors, so that what happens near 1 is seen."""
    share = math.log(1 - min(max(accuracy, 0.0), LINES[-1])) / math.log(1 - LINES[-1])
    return TOP + HEIGHT * (1 - share)


def _curve(r: Results) -> List[str]:
    last, bottom = len(r.accuracies) - 1, TOP + HEIGHT
    out = [text("head", LEFT, TOP - 12, f"accuracy on the test digits, at last {r.accuracies[-1]:.4f}")]
    for a in LINES:
        out.append(f'<path class="grid" d="M{LEFT} {up(a):.1f}h{WIDTH}"/>')
        out.append(text("dim end", LEFT - 9, up(a) + 4, f"{a:.3g}"))
    step = max(1, math.ceil(last / 12))
    for n in range(0, last + 1, step):
        out.append(f'<path class="axis" d="M{across(n, last):.1f} {bottom}v5"/>')
        out.append(text("dim mid", across(n, last), bottom + 20, str(n)))
    out.append(text("dim mid", LEFT + WIDTH / 2, bottom + 42, "round (0: untrained)"))
    if r.death is not None:
        # A round's model is drawn at its end, so what happened in its midst is half a round before.
        start = across(r.death.round - 0.5, last)
        end = across(last if r.death.returned is None else r.death.returned - 0.5, last)
        out.append(f'<rect class="away" x="{start:.1f}" y="{TOP}" width="{end - start:.1f}" height="{HEIGHT}"/>')
        out.append(f'<path class="event" d="M{start:.1f} {TOP}v{HEIGHT}"/>')
        out.append(text("said end", start - 6, bottom - 34, f"peer {r.death.peer} killed"))
        if r.death.returned is not None:
            out.append(f'<path class="event" stroke-dasharray="5 4" d="M{end:.1f} {TOP}v{HEIGHT}"/>')
            out.append(text("said", end + 6, bottom - 34, "back again"))
    points = [(across(n, last), up(a)) for n, a in enumerate(r.accuracies)]
    out.append('<path class="line" d="M' + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + '"/>')
    out += [
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.2"><title>round {n}: {a:.4f}</title></circle>'
        for n, ((x, y), a) in enumerate(zip(points, r.accuracies))
    ]
    return out


def _map(r: Results) -> List[str]:
    clients = len(r.split)
    shares = r.split / r.split.sum(1, keepdims=True)
    high = HEIGHT / (clients + 0.5 * (r.combiners - 1))
    out = [text("head", MAP, TOP - 12, "which digits each client has, as shares"), text("dim small end", MAP + 10 * CELL + 46, TOP - 12, "digits")]
    for digit in range(10):
        out.append(text("dim mid", MAP + CELL * (digit + 0.5), TOP + HEIGHT + 20, str(digit)))
    out.append(text("dim mid", MAP + CELL * 5, TOP + HEIGHT + 42, "digit"))
    for n, row in enumerate(r.split):
        y = TOP + high * (n + 0.5 * (n // (clients // r.combiners)))
        name = owner(n, clients, r.combiners)
        out.append(text("dim end small", MAP - 7, y + high / 2 + 3, name))
        out.append(text("dim end small", MAP + 10 * CELL + 46, y + high / 2 + 3, f"{row.sum():,}"))
        for digit, count in enumerate(row):
            x = MAP + CELL * digit
            shade = f'fill-opacity="{0.04 + 0.96 * shares[n, digit] / shares.max():.2f}"'
            out.append(
                f'<rect class="cell" x="{x}" y="{y:.1f}" width="{CELL - 2}" height="{high - 2:.1f}" rx="2" {shade}>'
                f"<title>{name}: {count} times the digit {digit}</title></rect>"
            )
    return out


def text(css: str, x: float, y: float, said: str) -> str:
    return f'<text class="{css}" x="{x:.1f}" y="{y:.1f}">{escape(said)}</text>'
