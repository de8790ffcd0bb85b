# SPDX-License-Identifier: GPL-2.0-or-later
"""Lab with connections that live through the hosts' strict firewalls.

The guest is a BIOS that talks to nobody; its side of the network is a
namespace with its address, whose default route leads to the host that runs
the guest. So a connection goes on only if that host has its entry.

    guest 10.20.0.10 --+-- lan .1  host A  .1 wan --+-- 192.0.2.5 peer
                       +-- lan .2  host B  .2 wan --+
"""
import contextlib
import ctypes
import os
import socket

from lab import GUEST, NAT, VM, Lab, run

PEER = "192.0.2.5"
SECONDS = 10

FIREWALL = f"""
flush ruleset
table inet fw {{
  chain early {{
    type filter hook prerouting priority -150;
    ct state invalid drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy drop;
    ct state established accept
    ct state new tcp flags & (fin|syn|rst|ack) == syn tcp dport {{ 80, 81 }} accept
    ct state new udp dport 53 accept
  }}
}}
table ip nat {{
  chain post {{
    type nat hook postrouting priority 100;
    oifname wan tcp dport 81 snat to {NAT}:20000-29999
    oifname wan udp dport 53 snat to {NAT}:20000-29999
  }}
}}
"""

# The guest's own.
RULES = """
table inet guest {
  chain f {
    type filter hook forward priority 10; policy accept;
    iifname "lan" tcp dport 9 counter packets 5 bytes 500 drop
  }
}
"""

_libc = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def inside(netns):
    """This thread in another network namespace; sockets stay there."""
    with open("/proc/self/ns/net", encoding="ascii") as home, \
            open("/run/netns/" + netns, encoding="ascii") as there:
        if _libc.setns(there.fileno(), 0):
            raise OSError(ctypes.get_errno(), "setns")
        try:
            yield
        finally:
            if _libc.setns(home.fileno(), 0):
                os._exit(1)


class Connection:
    """Both ends of one; @from_peer: the peer opens it."""

    def __init__(self, lab, kind, port, from_peer=False):
        near, far = lab.guest, lab.peer
        address = PEER
        if from_peer:
            near, far, address = far, near, GUEST
        with inside(far):
            server = socket.socket(socket.AF_INET, kind)
            server.bind((address, port))
            if kind == socket.SOCK_STREAM:
                server.listen()
        with inside(near):
            client = socket.socket(socket.AF_INET, kind)
            client.settimeout(SECONDS)
            client.connect((address, port))
        server.settimeout(SECONDS)
        if kind == socket.SOCK_STREAM:
            listener, server = server, server.accept()[0]
            listener.close()
            server.settimeout(SECONDS)
        else:
            client.send(b"hello")
            server.connect(server.recvfrom(100)[1])
        self.ends = client, server
        self.said = 0

    def talks(self):
        for one, other in self.ends, self.ends[::-1]:
            self.said += 1
            text = b"%d;" % self.said
            one.sendall(text)
            try:
                if other.recv(100) != text:
                    return False
            except (socket.timeout, OSError):
                return False
        return True

    def close(self):
        for end in self.ends:
            end.close()


class LiveLab(Lab):
    """Lab plus the guest's network and the peer's."""

    def __init__(self):
        super().__init__()
        self.guest, self.peer = (f"msc{os.getpid()}-{name}"
                                 for name in ("guest", "peer"))
        self.connections = []
        self.wire(self.guest, "lan", GUEST, "10.20.0.")
        self.wire(self.peer, "wan", PEER, "192.0.2.")
        for host in self.hosts():
            host.ns("sh", "-ec", f"nft -f - <<'END'\n{FIREWALL}\nEND\n"
                    "sysctl -qw net.ipv4.ip_forward=1 "
                    "net.netfilter.nf_conntrack_tcp_loose=0 "
                    "net.netfilter.nf_conntrack_tcp_be_liberal=0")
            host.sc("vm", "remove", VM)
            host.sc("vm", "add", VM, "--name", "guest", "--address", GUEST,
                    "--nat-address", NAT, "--nft-table", "inet guest",
                    "--interface", "lan=lan")
        self.owner(self.a)

    def wire(self, netns, link, address, prefix):
        run("ip", "netns", "add", netns)
        for args in (("link", "set", "lo", "up"),
                     ("link", "add", link, "type", "bridge"),
                     ("addr", "add", address + "/24", "dev", link),
                     ("link", "set", link, "up")):
            run("ip", "-n", netns, *args)
        for number, host in enumerate(self.hosts(), 1):
            port = "to" + host.name
            run("ip", "link", "add", port, "netns", netns, "type", "veth",
                "peer", "name", link, "netns", host.netns)
            run("ip", "-n", netns, "link", "set", port, "master", link, "up")
            run("ip", "-n", host.netns, "addr", "add",
                f"{prefix}{number}/24", "dev", link)
            run("ip", "-n", host.netns, "link", "set", link, "up")

    def owner(self, host):
        """Guest and peer reach each other through this host."""
        number = 1 if host is self.a else 2
        run("ip", "-n", self.guest, "route", "replace", "default", "via",
            f"10.20.0.{number}")
        for what in "10.20.0.0/24", NAT + "/32":
            run("ip", "-n", self.peer, "route", "replace", what, "via",
                f"192.0.2.{number}")

    @staticmethod
    def rules(host):
        """The guest's table, or what nft says when there is none."""
        return host.ns("nft", "list", "table", "inet", "guest", check=False)

    def connect(self):
        """Opens the connections, loads the rules; how many the former."""
        self.a.ns("sh", "-ec", f"nft -f - <<'END'\n{RULES}\nEND\n")
        for kind, port, from_peer in ((socket.SOCK_STREAM, 80, False),
                                      (socket.SOCK_STREAM, 81, False),
                                      (socket.SOCK_STREAM, 80, True),
                                      (socket.SOCK_DGRAM, 53, False)):
            self.connections.append(Connection(self, kind, port, from_peer))
        assert self.talk() == len(self.connections)
        return len(self.connections)

    def talk(self):
        """How many connections carry data in both directions."""
        return sum(c.talks() for c in self.connections)

    def __exit__(self, *args):
        for connection in self.connections:
            connection.close()
        super().__exit__(*args)
        for netns in self.guest, self.peer:
            run("ip", "netns", "del", netns, check=False)
