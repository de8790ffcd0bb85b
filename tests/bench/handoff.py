# SPDX-License-Identifier: GPL-2.0-or-later
"""Switchover with many flows: STOP of the source to RESUME of the
destination, with the context and without, in the same round."""
import tempfile

from figures import Report
from lab import GUEST, NAT, Lab, until
import plot

FLOWS = 0, 1000, 10000
PORTS = 50000


def label(count):
    return f"{count // 1000}k" if count else "0"


def inject(host, count):
    """Established TCP of the guest, some of it behind SNAT."""
    if not count:
        return
    with tempfile.NamedTemporaryFile("w", suffix=".ct") as f:
        for i in range(count):
            nat = f" -n {NAT}" if i % 10 == 0 else ""
            f.write(f"-A -p tcp -s {GUEST} -d 192.0.2.{1 + i // PORTS} "
                    f"--sport {1024 + i % PORTS} --dport 443 --state "
                    f"ESTABLISHED -t 40000 -u SEEN_REPLY,ASSURED{nat}\n")
        f.flush()
        host.ns("conntrack", "--load-file", f.name)
    assert host.flows() == count, (host.flows(), count)


def one(lab, count, secure):
    """One migration: downtime in ms, and what query-migrate says of it."""
    for host in lab.hosts():
        host.ns("conntrack", "-F")
        host.start_qemu(incoming=host is lab.b, secure=secure)
    inject(lab.a, count)
    assert until(lab.a.running)
    info = lab.migrate(lab.a, lab.b)
    assert info["status"] == "completed", info
    assert until(lab.b.running)
    assert lab.b.flows() == (count if secure else 0), lab.b.flows()
    lab.a.qmp.cmd("query-status")
    downtime = (lab.b.qmp.event_time("RESUME") -
                lab.a.qmp.event_time("STOP")) * 1000
    return downtime, info.get("security-context")


def measure(options):
    runs = options.runs or (1 if options.quick else 10)
    report = Report(f"Switchover, STOP to RESUME, {runs} runs")
    downtime = {(n, s): [] for n in FLOWS for s in (False, True)}
    freeze = {n: [] for n in FLOWS}
    size = {n: [] for n in FLOWS}
    with Lab() as lab:
        for number in range(runs):
            rows = sorted(downtime, reverse=number % 2)
            for n, secure in rows:
                ms, context = one(lab, n, secure)
                downtime[n, secure].append(ms)
                if secure:
                    freeze[n].append(context["freeze-us"] / 1000)
                    size[n].append(context["context-bytes"])
            print(f"round {number + 1} of {runs}", flush=True)
    for n in FLOWS:
        report.row(f"{label(n)} flows", **{
            "without, ms": downtime[n, False],
            "with, ms": downtime[n, True], "freeze, ms": freeze[n],
            "context, KiB": [b / 1024 for b in size[n]]})
    for n in FLOWS:
        report.figure(f"extra_downtime_ms_{label(n)}", "ms", [
            a - b for a, b in zip(downtime[n, True], downtime[n, False])])
        report.figure(f"freeze_ms_{label(n)}", "ms", freeze[n])
        if n:
            report.figure(f"wire_bytes_per_flow_{label(n)}", "bytes",
                          [b / n for b in size[n]])
    if options.plot:
        plot.lines(options.plot, "handoff", "Switchover with the context and "
                   "without", "flows", "STOP to RESUME, ms", [
                       ("with context", [(n, downtime[n, True])
                                         for n in FLOWS]),
                       ("without", [(n, downtime[n, False])
                                    for n in FLOWS])])
    return report
