# SPDX-License-Identifier: GPL-2.0-or-later
r"""Two hosts with strict firewalls, a Linux guest that moves between them,
and the peer it talks to; each a network namespace.

            +---------------- peer ----------------+
            | bridge wan  203.0.113.5  fd00:203::5 |
            +------+------------------------+------+
       203.0.113.1 | fd00:203::1            | 203.0.113.2 fd00:203::2
            +------+------+   migration   +-+-----------+
            |    host A   +---------------+    host B   |
            +------+------+ 10.9.0.1   .2 +-+-----------+
    same MAC, 10.20.0.1 and fd00:20::1, on the bridge of both
                   | tap                    | tap
            guest 10.20.0.10, fd00:20::10, floating address 203.0.113.10

The peer's routes to the guest and its floating address lead to the host that
runs it; they are switched when the destination's QEMU says RESUME.

Environment: besides that of lab.py, GUEST_KERNEL, GUEST_INITRD, FLOWS.
"""
import atexit
import json
import os
import re
import subprocess
import time

from lab import GUEST, NAT, VM, Lab, remove_namespaces, run, until

GUEST6 = "fd00:20::10"
GATEWAY_MAC = "52:54:00:20:00:01"

# New connections need a SYN, or come from the guest; what conntrack does not
# know in mid-stream is dropped. So a flow lives by its entry alone. The port
# ranges lie outside the guest's own (32768 up): every flow is given a port at
# random, and without its entry would be given another; so are the identifiers
# of its pings, which count from 1.
FIREWALL = f"""
table inet fw {{
  chain early {{
    type filter hook prerouting priority -150;
    ct state invalid drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established,related accept
    iifname br0 oifname wan ct state new tcp flags & (fin|syn|rst|ack) == syn tcp dport {{ 7001, 7002, 7005 }} accept
    iifname wan oifname br0 ct state new tcp flags & (fin|syn|rst|ack) == syn tcp dport {{ 7000, 7004, 7006 }} accept
    iifname br0 oifname wan ct state new udp dport 7003 accept
    iifname br0 oifname wan ct state new icmp type echo-request accept
  }}
  chain input {{
    type filter hook input priority 0; policy drop;
    iifname {{ lo, mig }} accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
  }}
}}
table ip nat {{
  chain pre {{
    type nat hook prerouting priority -100;
    iifname wan ip daddr {NAT} tcp dport 8000 dnat to {GUEST}:7004
  }}
  chain post {{
    type nat hook postrouting priority 100;
    oifname wan ip saddr {GUEST} tcp dport 7002 snat to {NAT}:20000-25999
    oifname wan ip saddr {GUEST} udp dport 7003 snat to {NAT}:26000-31999
    oifname wan ip saddr {GUEST} icmp type echo-request snat to {NAT}:32000-64999
  }}
}}
"""


class GuestLab(Lab):
    """Lab plus guest network, wan, peer."""

    def __init__(self, flows):
        atexit.register(remove_namespaces)
        super().__init__()
        self.count = flows
        self.peer = f"msc{os.getpid()}-peer"
        self.talker = None
        run("ip", "netns", "add", self.peer)
        for args in (("link", "set", "lo", "up"),
                     ("link", "add", "wan", "type", "bridge"),
                     ("addr", "add", "203.0.113.5/24", "dev", "wan"),
                     ("addr", "add", "fd00:203::5/64", "dev", "wan",
                      "nodad"),
                     ("link", "set", "wan", "up")):
            run("ip", "-n", self.peer, *args)
        for number, host in enumerate(self.hosts(), 1):
            self.wire(number, host)
        self.owner(self.a)

    def wire(self, number, host):
        host.wan, host.wan6 = f"203.0.113.{number}", f"fd00:203::{number}"
        port = "to" + host.name
        run("ip", "link", "add", port, "netns", self.peer, "type", "veth",
            "peer", "name", "wan", "netns", host.netns)
        run("ip", "-n", self.peer, "link", "set", port, "master", "wan", "up")
        for args in (("addr", "add", host.wan + "/24", "dev", "wan"),
                     ("addr", "add", host.wan6 + "/64", "dev", "wan",
                      "nodad"),
                     ("link", "set", "wan", "up"),
                     ("link", "add", "br0", "address", GATEWAY_MAC, "type",
                      "bridge"),
                     ("addr", "add", "10.20.0.1/24", "dev", "br0"),
                     ("addr", "add", "fd00:20::1/64", "dev", "br0", "nodad"),
                     ("link", "set", "br0", "up"),
                     ("tuntap", "add", "tap0", "mode", "tap"),
                     ("link", "set", "tap0", "master", "br0", "up")):
            run("ip", "-n", host.netns, *args)
        host.ns("sh", "-ec", "nft flush ruleset; "
                f"nft -f - <<'END'\n{FIREWALL}\nEND\n"
                "sysctl -qw net.ipv4.ip_forward=1 "
                "net.ipv6.conf.all.forwarding=1 "
                "net.netfilter.nf_conntrack_tcp_loose=0 "
                "net.netfilter.nf_conntrack_tcp_be_liberal=0")
        host.sc("vm", "remove", VM)
        host.sc("vm", "add", VM, "--name", "guest", "--address", GUEST,
                "--address", GUEST6, "--nat-address", NAT)

    def owner(self, host):
        """The peer reaches the guest through this host."""
        for what in "10.20.0.0/24", NAT + "/32":
            run("ip", "-n", self.peer, "route", "replace", what, "via",
                host.wan)
        run("ip", "-n", self.peer, "-6", "route", "replace", "fd00:20::/64",
            "via", host.wan6)

    def start_guest(self, host, incoming=False, secure=True, **options):
        host.start_qemu(
            incoming=incoming, secure=secure, **options,
            extra=["-kernel", os.environ["GUEST_KERNEL"],
                   "-initrd", os.environ["GUEST_INITRD"],
                   "-append", "console=ttyS0 quiet panic=-1 "
                   f"msc.flows={self.count}",
                   "-serial", "file:" + os.path.join(host.dir, "console.log"),
                   "-netdev", "tap,id=n0,ifname=tap0,script=no,downscript=no",
                   "-device", "virtio-net-pci,netdev=n0,romfile=,"
                   "mac=52:54:00:20:00:10"])

    def start_peer(self):
        self.talker = subprocess.Popen(
            ["ip", "netns", "exec", self.peer, "sh", "-c",
             f"ulimit -n 8192; exec {os.environ['FLOWS']} peer {self.count}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line):
        self.talker.stdin.write(line + "\n")
        self.talker.stdin.flush()
        reply = self.talker.stdout.readline()
        if not reply:
            raise RuntimeError("the peer's program ended")
        return json.loads(reply)

    def open_flows(self, seconds=180):
        """Until the guest runs and every flow has carried data both ways."""
        end, now = time.time() + seconds, {}
        while time.time() < end:
            now = self.ask("open")
            if now["open"] == now["total"]:
                return now
            if self.a.qemu.poll() is not None:
                raise RuntimeError("QEMU ended, see its log below")
            time.sleep(0.5)
        raise RuntimeError(f"flows do not open: {now}")

    def move(self, source, destination):
        """Migrates with the monitor's migrate; returns what was measured."""
        destination.qmp.cmd("migrate-incoming",
                            **{"uri": "tcp:0.0.0.0:4444",
                               "exit-on-error": False})
        begin = time.time()
        said = source.qmp.hmp(f"migrate -d tcp:{destination.address}:4444")
        if said.strip():
            raise RuntimeError(said.strip())
        status = info = None
        while time.time() < begin + 120:
            destination.qmp.cmd("query-status")
            if destination.qmp.event_time("RESUME"):
                self.owner(destination)
                break
            info = source.qmp.cmd("query-migrate")
            status = info.get("status")
            if status in ("failed", "cancelled"):
                raise RuntimeError(info.get("error-desc", status))
            time.sleep(0.005)
        else:
            raise RuntimeError(
                f"the migration does not end: {info}, on the destination "
                f"{destination.qmp.cmd('query-migrate')}")
        until(lambda: source.qmp.cmd("query-migrate")["status"] ==
              "completed")
        info = source.qmp.cmd("query-migrate")
        stops = [e for e in source.qmp.events if e["event"] == "STOP"]
        if not stops:
            raise RuntimeError(f"the source said no STOP: {info}, "
                               f"{source.qmp.events}")
        stamp = stops[-1]["timestamp"]
        stop = stamp["seconds"] + stamp["microseconds"] / 1e6
        return {"downtime_ms": round(
                    (destination.qmp.event_time("RESUME") - stop) * 1e3, 1),
                "total_ms": info.get("total-time"),
                "context": info.get("security-context") or {},
                "monitor": source.qmp.hmp("info migrate")}

    def __exit__(self, kind, *rest):
        if self.talker:
            self.talker.stdin.close()
            self.talker.stdout.close()
            self.talker.wait()
        if kind:
            for host in self.hosts():
                path = os.path.join(host.dir, "console.log")
                if os.path.exists(path):
                    text = open(path, errors="replace").read()
                    print(f"--- {host.name} console\n" +
                          re.sub(r"[^\x20-\x7e\n]", "", text)[-2000:])
        super().__exit__(kind, *rest)
        run("ip", "netns", "del", self.peer, check=False)
