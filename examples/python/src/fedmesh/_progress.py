"""A progress callback for terminals."""

from __future__ import annotations

import sys
import time
from typing import Optional, TextIO


class Bar:
    """Draws how far a transfer is: progress=fedmesh.Bar("push"). On what is no terminal it prints a line at every tenth."""

    def __init__(self, label: str = "", stream: Optional[TextIO] = None, width: int = 30) -> None:
        self.label, self.width = label, width
        self.stream = stream if stream is not None else sys.stderr
        self._terminal = self.stream.isatty()
        self._drawn = 0.0
        self._tenth = 0

    def __call__(self, done: int, total: int) -> None:
        whole = done == total
        if total <= 0:
            text = f"{self.label} {_size(done)}"
        else:
            filled = self.width * min(done, total) // total
            text = f"{self.label} [{'#' * filled}{'.' * (self.width - filled)}] {_size(done)} of {_size(total)}"
        if self._terminal:
            now = time.monotonic()
            if whole or now - self._drawn >= 0.1:
                self._drawn = now
                self.stream.write("\r" + text.strip() + "\x1b[K" + ("\n" if whole else ""))
                self.stream.flush()
        elif total > 0 and done * 10 // total != self._tenth:
            self._tenth = done * 10 // total
            self.stream.write(text.strip() + "\n")


def _size(n: int) -> str:
    value = float(n)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
