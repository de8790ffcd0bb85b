# SPDX-License-Identifier: GPL-2.0-or-later
"""Figures of a bench: medians with their spread, ratios, a table, JSON."""
import json
import random
import statistics
import sys


def ratios(ours, theirs):
    """Run by run: the two stood side by side in each round."""
    return [a / b for a, b in zip(ours, theirs)]


def compare(ours, theirs, how):
    """@how(median of ours, median of theirs), and its bounds with 95 %
    confidence, by drawing the runs again."""
    draw = random.Random(1)

    def medians(pick):
        return how(statistics.median(pick(ours)),
                   statistics.median(pick(theirs)))

    drawn = sorted(medians(lambda runs: draw.choices(runs, k=len(runs)))
                   for _ in range(2000))
    value = medians(lambda runs: runs)
    return value, min(value, drawn[50]), max(value, drawn[-51])


class Report:
    def __init__(self, title):
        self.title = title
        self.figures = []
        self.rows = []
        self.missing = []

    def figure(self, name, unit, values, goal=None):
        """@goal: (">=" or "<=", number), for the table only."""
        self.figures.append({
            "name": name, "value": round(statistics.median(values), 4),
            "unit": unit, "runs": len(values),
            "min": round(min(values), 4), "max": round(max(values), 4),
            "goal": f"{goal[0]} {goal[1]}" if goal else ""})

    def comparison(self, name, unit, compared, runs, goal=None):
        """@compared: as compare() gives it; its bounds stand for the spread."""
        value, low, high = (round(x, 4) for x in compared)
        self.figures.append({
            "name": name, "value": value, "unit": unit, "runs": runs,
            "min": low, "max": high,
            "goal": f"{goal[0]} {goal[1]}" if goal else ""})

    def absent(self, name, why):
        """A figure that this machine or build cannot give."""
        self.missing.append((name, why))

    def row(self, name, **columns):
        """One row of the table of raw results: lists of values."""
        self.rows.append((name, columns))

    def print(self):
        print(f"\n{self.title}")
        if self.rows:
            names = list(self.rows[0][1])
            print(f"{'':28}" + "".join(f"{n:>26}" for n in names))
            for name, columns in self.rows:
                print(f"{name:28}" + "".join(
                    f"{spread(columns[n]):>26}" for n in names))
            print()
        for f in self.figures:
            print(f"{f['name']:30} {f['value']:>10.3f} {f['unit']:<6} "
                  f"[{f['min']:.3f} .. {f['max']:.3f}] of {f['runs']:>2}  "
                  f"{'goal ' + f['goal'] if f['goal'] else ''}")
        for name, why in self.missing:
            print(f"{name:30} absent: {why}")
        sys.stdout.flush()

    def write(self, path):
        keys = "name", "value", "unit", "runs", "min", "max"
        with open(path, "w", encoding="utf-8") as f:
            json.dump({
                "title": self.title,
                "figures": [{k: x[k] for k in keys} for x in self.figures],
                "rows": {name: columns for name, columns in self.rows},
                "absent": dict(self.missing)}, f, indent=2)
            f.write("\n")


def spread(values):
    if not values:
        return "-"
    return (f"{statistics.median(values):.2f} "
            f"({min(values):.2f}..{max(values):.2f})")
