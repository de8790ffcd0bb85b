# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest that comes back: what its second migration sends of its context,
against the first, when one flow in a hundred ended, changed or began."""
import os
import tempfile

from lab import GUEST, until

FLOWS, QUICK = 100000, 10000
ENDING, CHANGING, BEGINNING = "192.0.2.200", "192.0.2.201", "192.0.2.202"
GOAL = "<=", 0.03


def forget_bases(lab):
    """So that a migration is the guest's first between the two."""
    for host in lab.hosts():
        base = os.path.join(host.dir, "state", "base")
        for name in os.listdir(base):
            os.unlink(os.path.join(base, name))


def add(host, peer, count, state="ESTABLISHED"):
    """Flows of the guest that one address tells from all others."""
    with tempfile.NamedTemporaryFile("w", suffix=".ct") as f:
        for i in range(count):
            f.write(f"-A -p tcp -s {GUEST} -d {peer} --sport {1024 + i} "
                    f"--dport 443 --state {state} -t 40000 "
                    "-u SEEN_REPLY,ASSURED\n")
        f.flush()
        host.ns("conntrack", "--load-file", f.name)


def move(lab, source, destination, count):
    """The bytes of the context, and milliseconds from STOP to RESUME."""
    info = lab.migrate(source, destination)
    assert info["status"] == "completed", info
    assert until(destination.running)
    assert destination.flows() == count, (destination.flows(), count)
    source.qmp.cmd("query-status")
    return (info["security-context"]["context-bytes"],
            (destination.qmp.event_time("RESUME") -
             source.qmp.event_time("STOP")) * 1000)


def one(lab, inject, count):
    """There and back: what move() says of each."""
    part = count // 300
    forget_bases(lab)
    for host in lab.hosts():
        host.ns("conntrack", "-F")
        host.start_qemu(incoming=host is lab.b)
    inject(lab.a, count - 2 * part)
    add(lab.a, ENDING, part)
    add(lab.a, CHANGING, part)
    assert until(lab.a.running)
    there = move(lab, lab.a, lab.b, count)
    lab.b.ns("conntrack", "-D", "-d", ENDING)
    lab.b.ns("conntrack", "-D", "-d", CHANGING)
    add(lab.b, CHANGING, part, "CLOSE_WAIT")
    add(lab.b, BEGINNING, part)
    lab.a.start_qemu(incoming=True)
    return there, move(lab, lab.b, lab.a, count)


def way_back(report, lab, inject, runs, quick):
    """@inject: (host, count) gives the guest its flows."""
    results = [one(lab, inject, QUICK if quick else FLOWS)
               for _ in range(runs)]
    report.figure("return_bytes_vs_bulk", "ratio",
                  [back[0] / there[0] for there, back in results], GOAL)
    # The second replaces the base that the first has left.
    report.figure("downtime_ms_there", "ms", [there[1] for there, _ in results])
    report.figure("downtime_ms_back", "ms", [back[1] for _, back in results])
