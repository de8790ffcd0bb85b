# SPDX-License-Identifier: GPL-2.0-or-later
"""Switchover with many flows: STOP of the source to RESUME of the
destination, with the context and without, in the same round."""
import contextlib
import os
import subprocess
import tempfile

import added
from comeback import forget_bases, way_back
from figures import Report
from lab import GUEST, NAT, Lab, until
import plot
import rules
import total_time

FLOWS = 0, 1000, 10000, 100000, 1000000
QUICK = 0, 1000, 10000
# With so many flows a round takes a minute and more.
MANY, MANY_RUNS = 1000000, 5
BUSY, PER_SECOND = 100000, 10000
PORTS = 50000
TABLE_MAX = "/proc/sys/net/netfilter/nf_conntrack_max"
# Both hosts are in one kernel.
ROOM = 3 * max(FLOWS)
GOAL_MS = "<=", 2
BUSY_GOAL_MS = "<=", 10


def label(count):
    if count >= 1000000:
        return f"{count // 1000000}m"
    return f"{count // 1000}k" if count else "0"


@contextlib.contextmanager
def room_for_all():
    """The table's limit is the machine's; it is put back."""
    with open(TABLE_MAX, encoding="ascii") as f:
        before = int(f.read())
    if before < ROOM:
        with open(TABLE_MAX, "w", encoding="ascii") as f:
            f.write(str(ROOM))
    yield
    if before < ROOM:
        with open(TABLE_MAX, "w", encoding="ascii") as f:
            f.write(str(before))


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


@contextlib.contextmanager
def churn(host, count):
    """Changes PER_SECOND of the flows, from before the migration on."""
    process = subprocess.Popen(
        ["ip", "netns", "exec", host.netns, os.environ["BENCH_CHURN"],
         str(count), str(PER_SECOND)], stdin=subprocess.DEVNULL)
    yield
    assert process.poll() is None, "the changes have ended"
    process.kill()
    process.wait()


def one(lab, count, secure, busy=False):
    """One migration: downtime in ms, and what query-migrate says of it."""
    forget_bases(lab)
    for host in lab.hosts():
        host.ns("conntrack", "-F")
        host.start_qemu(incoming=host is lab.b, secure=secure)
    inject(lab.a, count)
    assert until(lab.a.running)
    with churn(lab.a, count) if busy else contextlib.nullcontext():
        info = lab.migrate(lab.a, lab.b)
        assert info["status"] == "completed", info
        assert until(lab.b.running)
    assert lab.b.flows() == (count if secure else 0), lab.b.flows()
    lab.a.qmp.cmd("query-status")
    downtime = (lab.b.qmp.event_time("RESUME") -
                lab.a.qmp.event_time("STOP")) * 1000
    return downtime, info.get("security-context")


def most_memory(lab):
    """Of either helper so far, MiB."""
    most = 0
    for host in lab.hosts():
        with open(f"/proc/{host.daemon.pid}/status", encoding="ascii") as f:
            most = max(most, *(int(line.split()[1]) for line in f
                               if line.startswith("VmHWM")))
    return most / 1024


def per_flow(report, runs, quick):
    """CPU for a flow on either side, against bare netlink."""
    count = 10000 if quick else 100000
    rows = []
    for _ in range(runs):
        # A table of its own, that no daemon looks at.
        out = subprocess.run(
            [os.environ["BENCH_CONNTRACK"], str(count)], check=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            text=True).stdout.split()
        rows.append(dict(zip(out[::2], map(float, out[1::2]))))
    report.figure("collect_vs_kernel", "ratio",
                  [r["collect"] / r["bare-dump"] for r in rows], ("<=", 1.5))
    report.figure("collect_with_admission_vs_kernel", "ratio",
                  [r["looked"] / r["bare-dump"] for r in rows])
    report.figure("stage_vs_kernel", "ratio",
                  [r["stage"] / r["bare-create"] for r in rows], ("<=", 1.5))


class Rounds:
    """Results by row: (flows, with the context, busy)."""

    def __init__(self, flows, busy):
        self.rows = [(n, s, False) for n in flows for s in (False, True)]
        if busy:
            self.rows += [(BUSY, s, True) for s in (False, True)]
        self.downtime = {row: [] for row in self.rows}
        self.freeze = {row: [] for row in self.rows}
        self.size = {row: [] for row in self.rows}

    def run(self, lab, row):
        ms, context = one(lab, *row)
        self.downtime[row].append(ms)
        if row[1]:
            self.freeze[row].append(context["freeze-us"] / 1000)
            self.size[row].append(context["context-bytes"])

    def extra(self, flows, busy=False):
        return [a - b for a, b in zip(self.downtime[flows, True, busy],
                                      self.downtime[flows, False, busy])]


def rounds(report, flows, runs, quick):
    """All rows, interleaved, and what they show."""
    memory = []
    r = Rounds(flows, not quick)
    with room_for_all(), Lab() as lab:
        for number in range(runs):
            for row in sorted(r.rows, reverse=number % 2):
                if row[0] < MANY or number < MANY_RUNS:
                    r.run(lab, row)
            memory.append(most_memory(lab))
            print(f"round {number + 1} of {runs}", flush=True)
    for n, secure, busy in r.rows:
        if secure:
            report.row(f"{label(n)} flows" + ", busy" * busy, **{
                "without, ms": r.downtime[n, False, busy],
                "with, ms": r.downtime[n, True, busy],
                "freeze, ms": r.freeze[n, True, busy],
                "context, KiB": [b / 1024 for b in r.size[n, True, busy]]})
    for n in flows:
        report.figure(f"extra_downtime_ms_{label(n)}", "ms", r.extra(n),
                      GOAL_MS)
        report.figure(f"freeze_ms_{label(n)}", "ms", r.freeze[n, True, False])
    most = 10000 if quick else 100000
    report.figure("wire_bytes_per_flow", "bytes",
                  [b / most for b in r.size[most, True, False]], ("<=", 64))
    if not quick:
        report.figure(f"extra_downtime_ms_{label(BUSY)}_busy", "ms",
                      r.extra(BUSY, True), BUSY_GOAL_MS)
        report.figure(f"helper_rss_mib_{label(MANY)}", "MiB", memory,
                      ("<=", 256))
    return r


def measure(options):
    runs = options.runs or (1 if options.quick else 10)
    flows = QUICK if options.quick else FLOWS
    report = Report(f"Switchover, STOP to RESUME, {runs} runs")
    r = rounds(report, flows, runs, options.quick)
    per_flow(report, runs, options.quick)
    with room_for_all(), Lab() as lab:
        way_back(report, lab, inject, runs, options.quick)
    added.measure(report, runs, options.quick, inject)
    rules.measure(report, runs, options.quick)
    with room_for_all():
        total_time.measure(report, runs, options.quick, inject)
    if options.plot:
        plot.lines(options.plot, "handoff", "Switchover with the context and "
                   "without", "flows", "STOP to RESUME, ms", [
                       ("with context", [(n, r.downtime[n, True, False])
                                         for n in flows]),
                       ("without", [(n, r.downtime[n, False, False])
                                    for n in flows])])
    return report
