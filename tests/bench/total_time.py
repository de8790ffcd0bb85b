# SPDX-License-Identifier: GPL-2.0-or-later
"""A whole migration with many flows: the same guest with the context and
without it, over the same protected transport, in the same round.

The guest runs, or there would be nothing to send while it does. Its RAM is a
file of random bytes that it has to itself, the destination's is preallocated.
"""
import contextlib
import os
import statistics
import tempfile

from comeback import forget_bases
from lab import Lab, until

FLOWS = 100000
MIB, QUICK_MIB = 2048, 256
# Each takes half a minute.
MOST_RUNS = 5
UNLIMITED = 100 << 30
# Of the figure, and the limit: QEMU's own, which most people leave, or none.
LIMITS = ("", None), ("_unlimited", UNLIMITED)


@contextlib.contextmanager
def random_ram(mib):
    """Options of the source's QEMU and of the destination's."""
    machine = ["-machine", "memory-backend=ram", "-object"]
    with tempfile.NamedTemporaryFile(dir="/dev/shm", prefix="msc-ram-") as f:
        for _ in range(mib):
            f.write(os.urandom(1 << 20))
        f.flush()
        yield (machine + [f"memory-backend-file,id=ram,size={mib}M,"
                          f"mem-path={f.name},share=off"],
               machine + [f"memory-backend-ram,id=ram,size={mib}M,"
                          "prealloc=on"])


def one(lab, ram, mib, limit, context, inject):
    """Seconds, as query-migrate tells them; the guest was never there."""
    forget_bases(lab)
    for host, memory in zip(lab.hosts(), ram):
        host.ns("conntrack", "-F")
        host.start_qemu(incoming=host is lab.b, memory=mib, extra=memory,
                        context=context)
        if limit:
            host.qmp.cmd("migrate-set-parameters", **{"max-bandwidth": limit})
    inject(lab.a, FLOWS)
    assert until(lab.a.running)
    info = lab.migrate(lab.a, lab.b)
    assert info["status"] == "completed", info
    assert until(lab.b.running)
    assert lab.b.flows() == (FLOWS if context else 0), lab.b.flows()
    return info["total-time"] / 1000


def measure(report, runs, quick, inject):
    """@inject: puts so many flows of the guest on a host."""
    mib = QUICK_MIB if quick else MIB
    rows = [(name, context) for name in LIMITS for context in (False, True)]
    seconds = {row: [] for row in rows}
    with random_ram(mib) as ram, Lab() as lab:
        for host in lab.hosts():
            host.reconfigure("[handoff]\ncontext = optional\n")
        for number in range(min(runs, MOST_RUNS)):
            for row in rows[::-1 if number % 2 else 1]:
                (_, limit), context = row
                seconds[row].append(one(lab, ram, mib, limit, context, inject))
            print(f"total time, round {number + 1}", flush=True)
    for name in LIMITS:
        suffix = name[0]
        without = seconds[name, False]
        middle = statistics.median(without)
        report.figure(f"total_time_s_without{suffix}", "s", without)
        report.figure(f"total_time_s_100k{suffix}", "s", seconds[name, True])
        report.figure(f"total_time_vs_without_100k{suffix}", "ratio",
                      [s / middle for s in seconds[name, True]], ("<=", 1.05))
