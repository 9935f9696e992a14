#!/usr/bin/env python
"""How cost grows with the catalogue: a picture of several runs of bench/search.py.

python bench/search.py --products 2000 --only-ours > 2k.json      # and so on
python bench/growth.py 2k.json 20k.json 200k.json 1m.json > docs/growth.svg
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 190, 20, 40
COLOURS = ("#1f5fa8", "#b5482a", "#2c7a4b", "#7a4ba0", "#8a6d1a", "#444444")
Run = dict[str, Any]


def shape(name: str) -> Callable[[Run], float]:
    return lambda run: next(float(each["p50_ms"]) for each in run["filters"] if each["shape"] == name)


LINES: dict[str, Callable[[Run], float]] = {
    "FAISS, the same index": lambda run: float(run["faiss"]["p50_ms"]),
    "our answer, no filter": lambda run: float(run["ours"]["p50_ms"]),
    "half of all, at random": shape("random_50"),
    "1 %, at random": shape("random_1"),
    "a category, from within": shape("category"),
    "the same, from outside": shape("category_outside"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="what bench/search.py has printed")
    runs = sorted((json.loads(path.read_text()) for path in parser.parse_args().runs), key=lambda run: run["products"])
    print(drawn(runs))


def drawn(runs: Sequence[Run]) -> str:
    """Milliseconds (median) by products, both in powers of ten, as SVG."""
    values = {name: [value(run) for run in runs] for name, value in LINES.items()}
    sizes = [math.log10(run["products"]) for run in runs]
    logs = [math.log10(value) for line in values.values() for value in line]
    low, high = math.floor(min(logs)), math.ceil(max(logs))

    def x(size: float) -> float:
        return LEFT + (size - sizes[0]) / max(1e-9, sizes[-1] - sizes[0]) * (WIDTH - LEFT - RIGHT)

    def y(log: float) -> float:
        return HEIGHT - BOTTOM - (log - low) / max(1, high - low) * (HEIGHT - TOP - BOTTOM)

    pieces = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        "<title>Median milliseconds of an answer by number of products</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
    ]
    for power in range(low, high + 1):
        pieces.append(f'<path d="M{LEFT} {y(power):.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>')
        pieces.append(f'<text x="{LEFT - 6}" y="{y(power) + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>')
    for run, size in zip(runs, sizes, strict=True):
        pieces.append(
            f'<text x="{x(size):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{run["products"]:,}</text>'
        )
    ends = sorted((math.log10(line[-1]), name) for name, line in values.items())
    places: dict[str, float] = {}
    for at, (log, name) in enumerate(ends):  # names beside their lines' ends, none over another
        below = places[ends[at - 1][1]] - 15 if at else math.inf
        places[name] = min(y(log) + 4, below)
    for colour, (name, line) in zip(COLOURS, values.items(), strict=True):
        points = " ".join(f"{x(size):.1f},{y(math.log10(value)):.1f}" for size, value in zip(sizes, line, strict=True))
        pieces.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        pieces.append(f'<text x="{WIDTH - RIGHT + 8}" y="{places[name]:.1f}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*pieces, "</svg>"])


if __name__ == "__main__":
    main()
