# SPDX-License-Identifier: GPL-2.0-or-later
"""Plots as SVG: bars with their spread, and lines over a number."""
import math
import os
import statistics
from xml.sax.saxutils import escape

COLOURS = ["#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377"]
WIDTH, BAR, LEFT, TOP = 760, 26, 210, 56
HEIGHT = 420


def text(x, y, what, anchor="start", size=13, weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" '
            f'font-size="{size}" font-weight="{weight}">'
            f'{escape(what)}</text>')


def line(x1, y1, x2, y2, colour="#999", width=1):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}" stroke-width="{width}"/>')


def nice_ticks(top):
    """About five round numbers from 0 past @top."""
    step = 10 ** math.floor(math.log10(top / 5 or 1))
    step *= next(m for m in (1, 2, 5, 10) if step * m * 5 >= top)
    return [i * step for i in range(int(math.ceil(top / step)) + 1)]


def save(directory, name, width, height, parts):
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, name + ".svg")
    with open(path, "w", encoding="utf-8") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
                f'height="{height}" viewBox="0 0 {width} {height}" '
                'font-family="sans-serif"><rect width="100%" height="100%" '
                'fill="white"/>' + "\n".join(parts) + "</svg>\n")
    print("plot:", path)


def bars(directory, name, title, unit, rows):
    """@rows: (label, values); the bar is the median, the line the spread."""
    top = max(max(v) for _, v in rows)
    ticks = nice_ticks(top)
    scale = (WIDTH - LEFT - 70) / ticks[-1]
    height = TOP + BAR * len(rows) + 44
    parts = [text(12, 26, title, size=16, weight="bold")]
    for t in ticks:
        x = LEFT + t * scale
        parts += [line(x, TOP - 6, x, height - 36, "#ddd"),
                  text(x, height - 20, f"{t:g}", "middle", 11)]
    parts.append(text(WIDTH - 12, height - 6, unit, "end", 11))
    for i, (label, values) in enumerate(rows):
        y = TOP + i * BAR
        middle = statistics.median(values)
        parts += [
            text(LEFT - 8, y + 14, label, "end"),
            f'<rect x="{LEFT}" y="{y}" width="{middle * scale:.1f}" '
            f'height="{BAR - 8}" fill="{COLOURS[0]}"/>',
            line(LEFT + min(values) * scale, y + 9,
                 LEFT + max(values) * scale, y + 9, "#222", 2),
            text(LEFT + max(values) * scale + 6, y + 14, f"{middle:.4g}",
                 size=11)]
    save(directory, name, WIDTH, height, parts)


def lines(directory, name, title, x_label, y_label, series):
    """@series: (label, [(x, values)])."""
    xs = [x for _, points in series for x, _ in points]
    top = max(max(v) for _, points in series for _, v in points)
    x_ticks, y_ticks = nice_ticks(max(xs)), nice_ticks(top)
    left, right, bottom = 70, WIDTH - 24, HEIGHT - 54

    def at(x, y):
        return (left + x / x_ticks[-1] * (right - left),
                bottom - y / y_ticks[-1] * (bottom - TOP))

    parts = [text(12, 26, title, size=16, weight="bold")]
    for t in y_ticks:
        _, y = at(0, t)
        parts += [line(left, y, right, y, "#ddd"),
                  text(left - 6, y + 4, f"{t:g}", "end", 11)]
    for t in x_ticks:
        x, _ = at(t, 0)
        parts.append(text(x, bottom + 18, f"{t:g}", "middle", 11))
    parts += [text((left + right) / 2, HEIGHT - 14, x_label, "middle", 12),
              text(12, 46, y_label, size=12)]
    for i, (label, points) in enumerate(series):
        colour = COLOURS[i % len(COLOURS)]
        path = []
        for x, values in points:
            px, py = at(x, statistics.median(values))
            path.append(f"{px:.1f},{py:.1f}")
            parts += [line(px, at(x, min(values))[1], px,
                           at(x, max(values))[1], colour, 2),
                      f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" '
                      f'fill="{colour}"/>']
        parts += [f'<polyline points="{" ".join(path)}" fill="none" '
                  f'stroke="{colour}" stroke-width="2"/>',
                  text(right - 150, TOP + 16 + 18 * i, label, size=12),
                  line(right - 180, TOP + 12 + 18 * i, right - 158,
                       TOP + 12 + 18 * i, colour, 3)]
    save(directory, name, WIDTH, HEIGHT, parts)
