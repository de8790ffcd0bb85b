# SPDX-License-Identifier: GPL-2.0-or-later
"""A guest with a long list of addresses in its nft table: what that adds to
its downtime, against the same table with an empty list."""
import re
import tempfile

from added import interleaved
from lab import GUEST, NAT, VM, Lab, until

ELEMENTS, QUICK = 50000, 5000
GOAL_MS = "<=", 2


def register(lab):
    for host in lab.hosts():
        host.sc("vm", "remove", VM)
        host.sc("vm", "add", VM, "--name", "guest", "--address", GUEST,
                "--nat-address", NAT, "--nft-table", "inet guest")


def load(host, count):
    """A blocklist, and a chain that asks it about the guest's packets."""
    with tempfile.NamedTemporaryFile("w", suffix=".nft") as f:
        f.write("table inet guest {\n set blocked {\n  type ipv4_addr\n")
        if count:
            addresses = (f"11.{i >> 16}.{i >> 8 & 255}.{i & 255}"
                         for i in range(count))
            f.write(f"  elements = {{ {', '.join(addresses)} }}\n")
        f.write(" }\n chain f {\n  type filter hook forward priority 0\n"
                f"  ip saddr {GUEST} ip daddr @blocked drop\n }}\n}}\n")
        f.flush()
        host.ns("nft", "-f", f.name)


def elements(host):
    """How many of the list are there."""
    text = host.ns("nft", "list", "set", "inet", "guest", "blocked")
    return len(re.findall(r"\b11\.\d+\.\d+\.\d+", text))


def one(lab, count):
    """Milliseconds from STOP to RESUME."""
    for host in lab.hosts():
        host.ns("nft", "delete", "table", "inet", "guest", check=False)
        host.start_qemu(incoming=host is lab.b)
    load(lab.a, count)
    assert until(lab.a.running)
    info = lab.migrate(lab.a, lab.b)
    assert info["status"] == "completed", info
    assert until(lab.b.running)
    assert elements(lab.b) == count, elements(lab.b)
    lab.a.qmp.cmd("query-status")
    return (lab.b.qmp.event_time("RESUME") -
            lab.a.qmp.event_time("STOP")) * 1000


def measure(report, runs, quick):
    count = QUICK if quick else ELEMENTS
    with Lab() as lab:
        register(lab)
        r = interleaved(runs, {"empty": lambda: one(lab, 0),
                               "full": lambda: one(lab, count)})
    name = f"{count // 1000}k"
    report.figure("downtime_ms_nft_0", "ms", r["empty"])
    report.figure(f"downtime_ms_nft_{name}", "ms", r["full"])
    report.figure(f"extra_downtime_ms_nft_{name}", "ms",
                  [a - b for a, b in zip(r["full"], r["empty"])], GOAL_MS)
