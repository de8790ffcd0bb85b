# SPDX-License-Identifier: GPL-2.0-or-later
"""RAM over the transport, over plain TCP, QEMU's TLS and tunnels: the same
guest memory, interleaved, fresh processes for each run.

Both ends stand in one network namespace and talk over its loopback device. The
source's RAM is a file of random bytes, the destination's is preallocated, and
the guest is stopped, so that each row moves the same bytes once. No row moves
a security context (context=off); `handoff` measures that.
"""
import json
import os
import shutil
import subprocess
import tempfile
import time

from figures import Report, compare, ratios
from lab import Lab, run, until
import plot

TICK = os.sysconf("SC_CLK_TCK")
GIB = 1 << 30
BANDWIDTH = 100 * GIB
ADDRESS = "127.0.0.1"
TUNNEL_PORT, TARGET_PORT, SSHD_PORT = 4450, 4451, 4452
SUITES = "aegis-128l", "aegis-256", "aes-256-gcm"


class Loopback(Lab):
    """Both hosts' helpers and QEMUs in one namespace."""

    def __init__(self):
        super().__init__()
        run("ip", "netns", "del", self.b.netns)
        self.b.netns = self.a.netns
        for host, other in (self.a, self.b), (self.b, self.a):
            host.address = ADDRESS
            name = "host" + other.name
            host.sc("peer", "remove", name)
            host.sc("peer", "add", name,
                    os.path.join(other.dir, "config", "identity.pub"),
                    "--address", ADDRESS)

    def use_suite(self, suite):
        """Restarts the helpers with this suite alone."""
        for host in self.hosts():
            host.reconfigure(f"[transport]\nsuites = {suite}\n"
                             "[handoff]\ncontext = optional\n")


def cpu_seconds(pid):
    """Of a process with its threads, and of its children, ended or not."""
    def own(p):
        with open(f"/proc/{p}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return sum(int(x) for x in fields[11:15]) / TICK

    total = own(pid)
    with open(f"/proc/{pid}/task/{pid}/children", encoding="utf-8") as f:
        for child in f.read().split():
            total += cpu_seconds(int(child))
    return total


def anonymous_kib(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        for line in f:
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    raise ValueError("no RssAnon")


class Tls:
    """A CA and one certificate for both ends, as QEMU wants them."""

    def __init__(self, directory):
        self.dir = os.path.join(directory, "tls")
        os.mkdir(self.dir)
        self.template("ca", "cn = bench\nca\ncert_signing_key\n")
        self.template("end", f'cn = localhost\nip_address = "{ADDRESS}"\n'
                      "tls_www_server\ntls_www_client\nsigning_key\n"
                      "encryption_key\n")
        for name in "ca", "end":
            self.tool("--generate-privkey", "--outfile", self.at(name + ".key"))
        self.tool("--generate-self-signed", "--load-privkey",
                  self.at("ca.key"), "--template", self.at("ca.tmpl"),
                  "--outfile", self.at("ca-cert.pem"))
        for side in "server", "client":
            self.tool("--generate-certificate", "--load-privkey",
                      self.at("end.key"), "--load-ca-certificate",
                      self.at("ca-cert.pem"), "--load-ca-privkey",
                      self.at("ca.key"), "--template", self.at("end.tmpl"),
                      "--outfile", self.at(side + "-cert.pem"))
            shutil.copy(self.at("end.key"), self.at(side + "-key.pem"))

    def at(self, name):
        return os.path.join(self.dir, name)

    def template(self, name, text):
        with open(self.at(name + ".tmpl"), "w", encoding="utf-8") as f:
            f.write(text)

    @staticmethod
    def tool(*args):
        run("certtool", "--bits", "2048", *args)

    def object(self, endpoint):
        return ["-object", f"tls-creds-x509,id=tls0,dir={self.dir},"
                f"endpoint={endpoint},verify-peer=on"]


class Tunnel:
    """ssh -L or stunnel, from TUNNEL_PORT to TARGET_PORT."""

    def __init__(self, lab, tls, kind):
        self.lab, self.dir, self.processes = lab, tempfile.mkdtemp(), []
        if kind == "ssh":
            self.ssh()
        else:
            self.stunnel(tls)
        assert until(self.listening), f"{kind} does not listen"

    def start(self, *command):
        with open(os.path.join(self.dir, "log"), "a", encoding="utf-8") as log:
            # pylint: disable=consider-using-with
            self.processes.append(subprocess.Popen(
                ["ip", "netns", "exec", self.lab.a.netns, *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log))

    def listening(self):
        return f":{TUNNEL_PORT} " in self.lab.a.ns("ss", "-ltn")

    def ssh(self):
        key = os.path.join(self.dir, "key")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        config = os.path.join(self.dir, "sshd_config")
        with open(config, "w", encoding="utf-8") as f:
            f.write(f"Port {SSHD_PORT}\nListenAddress {ADDRESS}\n"
                    f"HostKey {key}\nAuthorizedKeysFile {key}.pub\n"
                    "StrictModes no\nPidFile none\nUsePAM no\n"
                    "PermitRootLogin yes\n")
        os.makedirs("/run/sshd", exist_ok=True)
        self.start("/usr/sbin/sshd", "-D", "-f", config)
        assert until(lambda: f":{SSHD_PORT} " in
                     self.lab.a.ns("ss", "-ltn"))
        self.start("ssh", "-F", "none", "-N", "-i", key, "-c",
                   "aes128-gcm@openssh.com", "-o", "StrictHostKeyChecking=no",
                   "-o", "UserKnownHostsFile=/dev/null", "-p", str(SSHD_PORT),
                   "-L", f"{TUNNEL_PORT}:{ADDRESS}:{TARGET_PORT}",
                   "root@" + ADDRESS)

    def stunnel(self, tls):
        for side, accept, connect in (
                ("server", SSHD_PORT, TARGET_PORT),
                ("client", TUNNEL_PORT, SSHD_PORT)):
            config = os.path.join(self.dir, side)
            with open(config, "w", encoding="utf-8") as f:
                f.write(f"foreground = yes\npid =\n[s]\n"
                        f"client = {'yes' if side == 'client' else 'no'}\n"
                        f"accept = {ADDRESS}:{accept}\n"
                        f"connect = {ADDRESS}:{connect}\n"
                        f"cert = {tls.at(side + '-cert.pem')}\n"
                        f"key = {tls.at(side + '-key.pem')}\n"
                        f"CAfile = {tls.at('ca-cert.pem')}\nverifyChain = yes\n")
            self.start("stunnel4", config)

    def cpu(self):
        return sum(cpu_seconds(p.pid) for p in self.processes)

    def stop(self):
        for p in self.processes:
            p.terminate()
            p.wait()
        shutil.rmtree(self.dir, ignore_errors=True)


class Bench:
    def __init__(self, lab, memory_mib):
        self.lab, self.mib = lab, memory_mib
        self.ram = tempfile.mkdtemp(dir="/dev/shm", prefix="msc-bench-")
        self.tls = Tls(lab.dir)
        with open(os.path.join(self.ram, "ram"), "wb") as f:
            for _ in range(memory_mib):
                f.write(os.urandom(1 << 20))

    def close(self):
        shutil.rmtree(self.ram, ignore_errors=True)

    def memory(self, which):
        """RAM as shared memory: what is anonymous is QEMU's own."""
        path = os.path.join(self.ram, which)
        return ["-machine", "memory-backend=ram", "-object",
                f"memory-backend-file,id=ram,size={self.mib}M,mem-path={path},"
                f"share=on,prealloc={'off' if which == 'ram' else 'on'}"]

    def start(self, binary, secure, tls):
        extra = {"a": ["-S"] + self.memory("ram"),
                 "b": self.memory("target")}
        if tls:
            extra["a"] += self.tls.object("client")
            extra["b"] += self.tls.object("server")
        for host in self.lab.hosts():
            host.start_qemu(incoming=host is self.lab.b, secure=secure,
                            binary=binary, memory=self.mib, context=False,
                            extra=extra[host.name.lower()])

    def run(self, binary="QEMU_PLAIN", suite=None, tls=False, tunnel=None,
            multifd=0):
        """One migration: MB/s, CPU seconds a GiB, KiB of QEMU's own."""
        lab = self.lab
        if suite:
            lab.use_suite(suite)
            binary = "QEMU"
        self.start(binary, bool(suite), tls)
        for host in lab.hosts():
            host.qmp.cmd("migrate-set-capabilities", capabilities=[
                {"capability": "multifd", "state": bool(multifd)}])
            parameters = {"max-bandwidth": BANDWIDTH}
            if multifd:
                parameters["multifd-channels"] = multifd
            if tls:
                parameters["tls-creds"] = "tls0"
            host.qmp.cmd("migrate-set-parameters", **parameters)
        way = Tunnel(lab, self.tls, tunnel) if tunnel else None
        try:
            return self.migrate(way, suite)
        finally:
            if way:
                way.stop()
            for host in lab.hosts():
                host.stop_qemu()
            target = os.path.join(self.ram, "target")
            if os.path.exists(target):
                os.unlink(target)

    def migrate(self, way, suite):
        a, b = self.lab.hosts()
        pids = [a.qemu.pid, b.qemu.pid]
        if suite:
            pids += [a.daemon.pid, b.daemon.pid]

        def cpu():
            return sum(cpu_seconds(p) for p in pids) + (way.cpu() if way
                                                        else 0)

        b.qmp.cmd("migrate-incoming",
                  uri=f"tcp:{ADDRESS}:{TARGET_PORT if way else 4444}")
        before, anonymous = cpu(), 0
        a.qmp.cmd("migrate",
                  uri=f"tcp:{ADDRESS}:{TUNNEL_PORT if way else 4444}")
        while True:
            info = a.qmp.cmd("query-migrate")
            anonymous = max(anonymous, *(anonymous_kib(p) for p in pids[:2]))
            if info["status"] in ("completed", "failed"):
                break
            time.sleep(0.05)
        assert info["status"] == "completed", info
        assert until(lambda: b.qmp.cmd("query-migrate").get("status") ==
                     "completed")
        if suite:
            assert info["security-context"]["suite"] == suite, info
        gib = info["ram"]["transferred"] / GIB
        assert gib * 1024 > self.mib * 0.95, info
        return {"mbps": info["ram"]["transferred"] / 1e3 /
                        info["total-time"],
                "cpu": (cpu() - before) / gib, "kib": anonymous}


ROWS = {
    "plain": {},
    "aegis-128l": {"suite": "aegis-128l"},
    "aegis-256": {"suite": "aegis-256"},
    "aes-256-gcm": {"suite": "aes-256-gcm"},
    "TLS": {"tls": True},
    "TLS, 16 KiB records": {"tls": True, "binary": "QEMU_COALESCED"},
    "ssh -L": {"tunnel": "ssh"},
    "stunnel": {"tunnel": "stunnel"},
    "plain, multifd 2": {"multifd": 2},
    "aegis-128l, multifd 2": {"suite": "aegis-128l", "multifd": 2},
    "TLS, multifd 2": {"tls": True, "multifd": 2},
    "TLS, 16 KiB, multifd 2": {"tls": True, "binary": "QEMU_COALESCED",
                               "multifd": 2},
}
RATIOS = [
    ("one_channel_vs_tls", "mbps", "aegis-128l", "TLS", (">=", 3.3)),
    ("one_channel_vs_plain", "mbps", "aegis-128l", "plain", (">=", 0.80)),
    ("multifd2_vs_tls", "mbps", "aegis-128l, multifd 2", "TLS, multifd 2",
     (">=", 3.6)),
    ("one_channel_vs_coalesced_tls", "mbps", "aegis-128l",
     "TLS, 16 KiB records", (">=", 1.5)),
    ("multifd2_vs_coalesced_tls", "mbps", "aegis-128l, multifd 2",
     "TLS, 16 KiB, multifd 2", (">=", 2.1)),
    ("multifd2_cpu_vs_plain", "cpu", "aegis-128l, multifd 2",
     "plain, multifd 2", ("<=", 1.4)),
    ("cpu_per_gib_vs_tls", "cpu", "aegis-128l", "TLS", ("<=", 0.27)),
    ("aes_gcm_vs_tls", "mbps", "aes-256-gcm", "TLS", (">=", 2.2)),
]


def available_suites(lab):
    said = json.loads(lab.a.sc("status", "--json"))
    return said["suites"]


def throughput(lab, report, options, runs):
    suites = available_suites(lab)
    rows = {name: row for name, row in ROWS.items()
            if row.get("suite") in (None, *suites)}
    bench = Bench(lab, 256 if options.quick else 2048)
    results = {name: [] for name in rows}
    try:
        for number in range(runs):
            order = list(rows)
            for name in order if number % 2 == 0 else order[::-1]:
                results[name].append(bench.run(**rows[name]))
                last = results[name][-1]
                print(f"round {number + 1} of {runs}: {name:24} "
                      f"{last['mbps']:7.0f} MB/s {last['cpu']:6.2f} CPU "
                      f"s/GiB", flush=True)
        memory(bench, report, suites, 1 if options.quick else 3)
    finally:
        bench.close()
    columns = {name: {k: [r[k] for r in rs] for k in ("mbps", "cpu")}
               for name, rs in results.items()}
    for name, c in columns.items():
        report.row(name, **{"MB/s": c["mbps"], "CPU s/GiB": c["cpu"]})
    for name, column, ours, theirs, goal in RATIOS:
        if ours in columns:
            report.figure(name, "ratio", ratios(columns[ours][column],
                                                columns[theirs][column]),
                          goal)
        else:
            report.absent(name, f"this libsodium and CPU have no "
                          f"{ROWS[ours]['suite']}")
    if options.plot:
        plot.bars(options.plot, "transport-throughput",
                  "Guest memory over one machine's loopback", "MB/s",
                  [(n, c["mbps"]) for n, c in columns.items()])
        plot.bars(options.plot, "transport-cpu",
                  "CPU of both ends", "CPU seconds a GiB",
                  [(n, c["cpu"]) for n, c in columns.items()])


def memory(bench, report, suites, runs):
    """What a channel adds to QEMU, over what a plain one adds."""
    few, many = 2, 10
    suite = "aegis-128l" if "aegis-128l" in suites else suites[0]
    values = []
    for _ in range(runs):
        def grown(**row):
            return (bench.run(multifd=many, **row)["kib"] -
                    bench.run(multifd=few, **row)["kib"]) / (many - few)
        values.append((grown(suite=suite) - grown()) / 1024)
    report.figure("memory_per_channel_mib", "MiB", values, ("<=", 4))


# The RAM of an empty guest is gone in 20 ms, and the destination behind by a
# few when the source stops. At this rate it keeps up.
SLOW = 4 << 20


def idle_guest(lab, limit=None, **qemu):
    """Milliseconds from STOP to RESUME."""
    for host in lab.hosts():
        host.start_qemu(incoming=host is lab.b, **qemu)
    if limit:
        lab.a.qmp.cmd("migrate-set-parameters", **{"max-bandwidth": limit})
    assert until(lab.a.running)
    time.sleep(0.3)
    info = lab.migrate(lab.a, lab.b)
    assert info["status"] == "completed", info
    assert until(lab.b.running)
    lab.a.qmp.cmd("query-status")
    return (lab.b.qmp.event_time("RESUME") -
            lab.a.qmp.event_time("STOP")) * 1000


def idle_downtime(lab, report, options):
    """Of the transport alone, and with what the helpers do at switchover."""
    runs = 1 if options.quick else max(40, options.runs or 0)
    kinds = {
        "plain": {"secure": False},
        "transport": {"context": False},
        "context": {},
        "plain_slow": {"secure": False, "limit": SLOW},
        "transport_slow": {"context": False, "limit": SLOW},
    }
    downtime = {kind: [] for kind in kinds}
    for host in lab.hosts():
        host.reconfigure("[handoff]\ncontext = optional\n")
    for number in range(runs):
        for kind in list(kinds)[::1 if number % 2 else -1]:
            downtime[kind].append(idle_guest(lab, **kinds[kind]))
    for kind, values in downtime.items():
        report.figure(f"idle_downtime_{kind}_ms", "ms", values)
    for suffix in "", "_slow":
        report.comparison(
            f"idle_downtime{suffix}_vs_plain", "ratio",
            compare(downtime["transport" + suffix], downtime["plain" + suffix],
                    lambda ours, theirs: ours / theirs),
            runs, ("about", 1))


def record_layer(report, options):
    """The record layer alone, against bare libsodium."""
    turns = "1" if options.quick else "9"
    values = []
    for _ in range(1 if options.quick else 5):
        said = run(os.environ["BENCH_RECORD"], "--suite", "aegis-128l",
                   "--turns", turns)
        if not said:
            report.absent("record_vs_sodium",
                          "this libsodium has no aegis-128l")
            return
        values.append(json.loads(said)["record_vs_sodium"])
    report.figure("record_vs_sodium", "ratio", values, (">=", 0.85))


def handshakes(report):
    said = json.loads(run(os.environ["BENCH_HANDSHAKE"]))
    report.figure("handshake_first_cpu_ms", "ms", said["first_ms"],
                  ("<=", 2))
    report.figure("handshake_further_cpu_ms", "ms", said["further_ms"],
                  ("<=", 0.2))


def measure(options):
    runs = options.runs or (1 if options.quick else 5)
    report = Report(f"RAM over the transport and its peers, "
                    f"{runs} runs")
    record_layer(report, options)
    handshakes(report)
    with Loopback() as lab:
        throughput(lab, report, options, runs)
    with Lab() as lab:
        idle_downtime(lab, report, options)
    return report
