# SPDX-License-Identifier: GPL-2.0-or-later
"""What the context adds to the downtime of a guest: of an idle one, of one
under load, and against QEMU's own dbus-vmstate.

With the context and without it, the guest is the same and so is the transport,
in the same round. The peer is a stock QEMU with a dbus-vmstate helper that
dumps and loads the flows while the guest is stopped (vmstate-peer.c); its
downtime is compared with that of the same stock QEMU without it.
"""
import contextlib
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time

from comeback import forget_bases
from figures import compare
from lab import GUEST, Lab, until

FLOWS, PEER_FLOWS = 10000, 5000
# Few runs say little about a millisecond, and how much memory a loaded guest
# has just written when it stops differs from run to run by tens of them.
MORE_RUNS, LOADED_RUNS = 60, 150
UNLIMITED = 100 << 30

# Of one byte and back, median of many, in ms.
ECHO = """
import socket
s = socket.create_server(("", 4460))
print(flush=True)
c = s.accept()[0]
c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
while c.recv(1): c.send(b".")
"""
PING = """
import socket, statistics, sys, time
s = socket.create_connection((sys.argv[1], 4460))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
times = []
for _ in range(500):
    t = time.perf_counter()
    s.send(b".")
    s.recv(1)
    times.append(time.perf_counter() - t)
print(statistics.median(times) * 1000)
"""


def round_trip_ms(lab):
    with subprocess.Popen(
            ["ip", "netns", "exec", lab.b.netns, sys.executable, "-c", ECHO],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as echo:
        assert echo.stdout.readline(), "no echo"
        return float(lab.a.ns(sys.executable, "-c", PING, lab.b.address))


def flush_ms(host):
    """One write in place and its fdatasync, where the journal is."""
    times = []
    with tempfile.TemporaryFile(dir=host.dir) as f:
        for _ in range(100):
            begin = time.perf_counter()
            f.seek(0)
            f.write(b"x" * 512)
            f.flush()
            os.fdatasync(f.fileno())
            times.append(time.perf_counter() - begin)
    return statistics.median(times) * 1000


def boot_sector():
    """Of a guest that writes to 100 MiB without end: QEMU's own migration
    tests have it."""
    path = os.path.join(os.environ["QEMU_SOURCE"], "tests", "qtest",
                        "migration", "i386", "a-b-bootblock.h")
    with open(path, encoding="ascii") as header:
        sector = bytes(int(byte, 16) for byte in
                       re.findall(r"0x([0-9a-f]{2})\b", header.read()))
    assert len(sector) >= 512, len(sector)
    return sector


def load(host):
    """Options for that guest, which tells on its serial line that it runs."""
    disk = os.path.join(host.dir, "boot")
    with open(disk, "wb") as f:
        f.write(boot_sector())
    return ["-drive", f"if=none,id=d0,file={disk},format=raw",
            "-device", "ide-hd,drive=d0,secs=1,cyls=1,heads=1",
            "-serial", f"file:{host.dir}/serial"]


def one(lab, flows, inject, moves, loaded=False, extra=None, **qemu):
    """Milliseconds from STOP to RESUME. @moves: do the flows?"""
    forget_bases(lab)
    for host in lab.hosts():
        host.ns("conntrack", "-F")
        options = list(extra[host.name] if extra else ())
        host.start_qemu(incoming=host is lab.b, **qemu,
                        extra=options + (load(host) if loaded else []))
        if loaded:
            host.qmp.cmd("migrate-set-parameters",
                         **{"max-bandwidth": UNLIMITED})
    inject(lab.a, flows)
    assert until(lab.a.running)
    if loaded:
        # It has gone through its memory some times.
        assert until(lambda: os.path.getsize(f"{lab.a.dir}/serial") > 3)
    info = lab.migrate(lab.a, lab.b, old=qemu.get("binary") == "QEMU_STOCK")
    assert info["status"] == "completed", info
    assert until(lab.b.running)
    assert lab.b.flows() == (flows if moves else 0), lab.b.flows()
    lab.a.qmp.cmd("query-status")
    return (lab.b.qmp.event_time("RESUME") -
            lab.a.qmp.event_time("STOP")) * 1000


@contextlib.contextmanager
def vmstate_peers(lab):
    """Options by host, each with a bus and a helper of its own."""
    processes = []

    def start(host, *command):
        process = subprocess.Popen(
            ["ip", "netns", "exec", host.netns, *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL)
        processes.append(process)
        assert process.stdout.readline(), f"{command[0]} does not start"

    options = {}
    try:
        for host in lab.hosts():
            bus = f"unix:path={host.dir}/bus"
            start(host, "dbus-daemon", "--session", "--nofork",
                  "--print-address=1", f"--address={bus}")
            start(host, os.environ["BENCH_VMSTATE_PEER"], bus, GUEST)
            options[host.name] = ["-object", f"dbus-vmstate,id=dv,addr={bus}"]
        yield options
    finally:
        for process in processes[::-1]:
            process.kill()
            process.wait()
            process.stdout.close()


def interleaved(runs, rows):
    """@rows: functions by name; their results by name."""
    results = {name: [] for name in rows}
    for number in range(runs):
        for name in list(rows)[::-1 if number % 2 else 1]:
            results[name].append(rows[name]())
    return results


def against_vmstate(lab, report, runs, inject):
    flows = PEER_FLOWS
    with vmstate_peers(lab) as options:
        stock = {"secure": False, "binary": "QEMU_STOCK"}
        r = interleaved(runs, {
            "stock": lambda: one(lab, flows, inject, False, **stock),
            "dbus-vmstate": lambda: one(lab, flows, inject, True,
                                        extra=options, **stock),
            "without": lambda: one(lab, flows, inject, False, context=False),
            "with": lambda: one(lab, flows, inject, True)})
    print("against dbus-vmstate: done", flush=True)
    added = {name: [a - statistics.median(r[base]) for a in r[name]]
             for name, base in (("dbus-vmstate", "stock"),
                                ("with", "without"))}
    report.figure("added_ms_5k_dbus_vmstate", "ms", added["dbus-vmstate"])
    report.figure("added_ms_5k", "ms", added["with"])
    report.comparison(
        "downtime_vs_dbus_vmstate_5k", "ratio",
        compare(added["with"], added["dbus-vmstate"],
                lambda ours, theirs: ours / theirs), runs, ("<=", 0.2))


def of_idle(lab, report, runs, inject):
    flows = FLOWS
    r = interleaved(runs, {
        "without": lambda: one(lab, flows, inject, False, context=False),
        "with": lambda: one(lab, flows, inject, True)})
    print("idle guest: done", flush=True)
    trip = round_trip_ms(lab)
    flush = statistics.mean(flush_ms(host) for host in lab.hosts())
    report.figure("round_trip_ms", "ms", [trip])
    report.figure("flush_ms", "ms", [flush])
    report.comparison(
        "downtime_added_ms_10k_minus_rtt", "ms",
        compare(r["with"], r["without"],
                lambda ours, theirs: ours - theirs - trip - flush), runs,
        ("<=", 1))


def of_loaded(lab, report, runs, inject):
    flows = FLOWS
    r = interleaved(runs, {
        "without": lambda: one(lab, flows, inject, False, True, context=False),
        "with": lambda: one(lab, flows, inject, True, True)})
    print("guest under load: done", flush=True)
    report.figure("downtime_ms_load_without", "ms", r["without"])
    report.figure("downtime_ms_load_10k", "ms", r["with"])
    report.comparison(
        "downtime_vs_without_10k", "ratio",
        compare(r["with"], r["without"], lambda ours, theirs: ours / theirs),
        runs, ("<=", 1.05))


def measure(report, runs, quick, inject):
    """@inject(host, count): puts so many flows of the guest on a host."""
    with Lab() as lab:
        for host in lab.hosts():
            host.reconfigure("[handoff]\ncontext = optional\n")
        of_idle(lab, report, runs if quick else max(runs, MORE_RUNS), inject)
        of_loaded(lab, report, runs if quick else max(runs, LOADED_RUNS),
                  inject)
        against_vmstate(lab, report, runs, inject)
