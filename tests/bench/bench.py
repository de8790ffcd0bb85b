#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Measures the transport or the handoff side by side with their peers."""
import argparse
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "lib"))


def parse():
    p = argparse.ArgumentParser(
        prog="tests/bench/run",
        description="Measures, as root, the transport (RAM throughput and CPU "
        "against plain, TLS and tunnels) or the handoff (switchover with many "
        "flows). Peers run interleaved in the same run; figures are medians.")
    p.add_argument("what", choices=["transport", "handoff"])
    p.add_argument("--json", metavar="FILE", help="write the figures")
    p.add_argument("--plot", metavar="DIR", help="write plots as SVG")
    p.add_argument("--runs", type=int, metavar="N",
                   help="runs of each row (transport 5, handoff 10)")
    p.add_argument("--quick", action="store_true",
                   help="one run with little memory: shows that it works, the "
                   "figures mean nothing")
    options = p.parse_args()
    if options.runs is not None and options.runs < 1:
        p.error("--runs must be at least 1")
    return options


def main():
    options = parse()
    if "MSC_CHECK_ARGUMENTS" in os.environ:
        return
    if options.what == "transport":
        from transport import measure
    else:
        from handoff import measure
    report = measure(options)
    report.print()
    if options.json:
        report.write(options.json)


if __name__ == "__main__":
    main()
