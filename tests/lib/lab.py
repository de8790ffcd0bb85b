# SPDX-License-Identifier: GPL-2.0-or-later
"""Two hosts on one machine, each a network namespace with a migration-scd
and a QEMU:

      netns A                              netns B
      QEMU ---- helper.sock                helper.sock ---- QEMU
        |         migration-scd            migration-scd      |
      10.9.0.1  ------------- veth ----------------  10.9.0.2

Environment: MIGRATION_SC, MIGRATION_SCD, QEMU (the patched one), QEMU_PLAIN
(optional, unpatched).
"""
import fnmatch
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback

from mitm import HelperProxy

VM = "11111111-2222-3333-4444-555555555555"
GUEST = "10.20.0.10"
NAT = "203.0.113.10"
FIRMWARE = ["-L", "/usr/share/seabios", "-L", "/usr/share/qemu"]


def run(*args, check=True):
    return subprocess.run(args, check=check, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True).stdout


class Qmp:
    """One QEMU's monitor: commands, and its events with their times."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        for _ in range(200):
            try:
                self.sock.connect(path)
                break
            except OSError:
                time.sleep(0.05)
        self.sock.settimeout(30)
        # Not "rw": a write then drops what was read ahead, events with it.
        self.file = self.sock.makefile("r")
        self.events = []
        offered = json.loads(self.file.readline())["QMP"]["capabilities"]
        self.cmd("qmp_capabilities",
                 **({"enable": ["oob"]} if "oob" in offered else {}))

    def cmd(self, name, **args):
        return self.ask({"execute": name, "arguments": args})

    def cmd_out_of_band(self, name, **args):
        """Needs nothing of QEMU's main loop, for the few that can."""
        return self.ask({"exec-oob": name, "arguments": args})

    def ask(self, request):
        self.sock.sendall((json.dumps(request) + "\n").encode())
        while True:
            line = self.file.readline()
            if not line:
                raise ConnectionError("QEMU is gone")
            reply = json.loads(line)
            if "event" in reply:
                self.events.append(reply)
                continue
            if "error" in reply:
                raise RuntimeError(reply["error"]["desc"])
            return reply["return"]

    def hmp(self, line):
        return self.cmd("human-monitor-command", **{"command-line": line})

    def event_time(self, name):
        for event in self.events:
            if event["event"] == name:
                stamp = event["timestamp"]
                return stamp["seconds"] + stamp["microseconds"] / 1e6
        return None


class Host:
    def __init__(self, lab, name, address):
        self.lab, self.name, self.address = lab, name, address
        self.netns = f"msc{os.getpid()}-{name}"
        self.dir = os.path.join(lab.dir, name)
        os.mkdir(self.dir)
        self.daemon = self.qemu = self.qmp = self.proxy = None
        self.options = []
        for what in "config", "runtime", "state":
            self.options += [f"--{what}-dir", os.path.join(self.dir, what)]
        run("ip", "netns", "add", self.netns)
        run("ip", "-n", self.netns, "link", "set", "lo", "up")

    def ns(self, *args, **kw):
        return run("ip", "netns", "exec", self.netns, *args, **kw)

    def sc(self, *args, check=True):
        return self.ns(os.environ["MIGRATION_SC"], *args, *self.options,
                       check=check)

    def configure(self, text):
        """migration-sc.conf, before the daemon starts."""
        path = os.path.join(self.dir, "config", "migration-sc.conf")
        with open(path, "w", encoding="ascii") as conf:
            conf.write(text)

    def start_daemon(self, binary="MIGRATION_SCD", fault=""):
        """@fault: MSC_FAULT, for a build that has fault points."""
        log = open(os.path.join(self.dir, "daemon.log"), "a")
        self.daemon = subprocess.Popen(
            ["ip", "netns", "exec", self.netns, os.environ[binary],
             *self.options], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={**os.environ, "MSC_FAULT": fault})
        for _ in range(100):
            if "host " in self.sc("status", check=False):
                return
            if fault and self.daemon.poll() is not None:
                return
            time.sleep(0.05)
        raise RuntimeError(f"daemon of {self.name} does not start")

    def kill_daemon(self):
        if self.daemon:
            self.daemon.kill()
            self.daemon.wait()
            self.daemon = None

    def reconfigure(self, text):
        """As configure(), with the daemon restarted."""
        self.configure(text)
        self.kill_daemon()
        self.start_daemon()

    def start_qemu(self, incoming=False, secure=True, binary="QEMU",
                   memory=256, extra=(), uuid=VM, timeout_ms=None,
                   context=True):
        self.stop_qemu()
        path = os.path.join(self.dir, "qmp.sock")
        if os.path.exists(path):
            os.unlink(path)
        command = ["ip", "netns", "exec", self.netns, os.environ[binary],
                   *FIRMWARE, "-machine", "pc,accel=tcg", "-m", str(memory),
                   "-nodefaults", "-display", "none", "-uuid", uuid,
                   "-qmp", f"unix:{path},server=on,wait=off", *extra]
        if secure:
            sc = "migration-sc,id=sc0,socket=" + self.helper_socket()
            if timeout_ms:
                sc += f",timeout-ms={timeout_ms}"
            if not context:
                sc += ",context=off"
            command += ["-object", sc]
        if incoming:
            command += ["-incoming", "defer"]
        log = open(os.path.join(self.dir, "qemu.log"), "a")
        self.qemu = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                     stdout=log, stderr=log)
        self.qmp = Qmp(path)

    def helper_socket(self):
        """Where QEMU finds its helper: the proxy, if there is one."""
        return self.proxy.path if self.proxy else os.path.join(
            self.dir, "runtime", "helper.sock")

    def put_proxy(self):
        """A HelperProxy for the QEMUs that are started from now on."""
        self.proxy = HelperProxy(
            os.path.join(self.dir, "proxy.sock"),
            os.path.join(self.dir, "runtime", "helper.sock"))
        return self.proxy

    def migrations(self):
        """What migration-sc status knows, oldest first."""
        return json.loads(self.sc("status", "--json"))["migrations"]

    def log(self, name):
        with open(os.path.join(self.dir, name), errors="replace",
                  encoding="utf-8") as log:
            return log.read()

    def stop_qemu(self):
        if self.qemu:
            self.qemu.kill()
            self.qemu.wait()
            self.qemu = None

    def flows(self):
        text = subprocess.run(
            ["ip", "netns", "exec", self.netns, "conntrack", "-L"],
            check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            stdout=subprocess.PIPE, text=True).stdout
        return sum("src=" + GUEST in line for line in text.splitlines())

    def running(self):
        try:
            return bool(self.qmp.cmd("query-status")["running"])
        except (OSError, ConnectionError):
            return False


class Lab:
    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="msc-lab-")
        self.a = Host(self, "A", "10.9.0.1")
        self.b = Host(self, "B", "10.9.0.2")
        run("ip", "link", "add", "mig", "netns", self.a.netns, "type", "veth",
            "peer", "name", "mig", "netns", self.b.netns)
        for host in self.hosts():
            run("ip", "-n", host.netns, "addr", "add", host.address + "/24",
                "dev", "mig")
            run("ip", "-n", host.netns, "link", "set", "mig", "up")
            host.ns("nft", "add table inet t; add chain inet t f { type "
                    "filter hook forward priority 0; }; add rule inet t f ct "
                    "state established accept; add table ip n; add chain ip "
                    "n p { type nat hook postrouting priority 100; }")
            host.sc("keygen", "--name", "host" + host.name)
            host.sc("vm", "add", VM, "--name", "guest", "--address", GUEST,
                    "--nat-address", NAT)
        for host, other in (self.a, self.b), (self.b, self.a):
            host.sc("peer", "add", "host" + other.name,
                    os.path.join(other.dir, "config", "identity.pub"),
                    "--address", other.address)

    def hosts(self):
        return self.a, self.b

    def __enter__(self):
        for host in self.hosts():
            host.start_daemon()
        return self

    def __exit__(self, kind, *rest):
        if kind:
            for host in self.hosts():
                for name in "daemon.log", "qemu.log":
                    path = os.path.join(host.dir, name)
                    if os.path.exists(path):
                        said = host.log(name)[-3000:].splitlines()[-12:]
                        print(f"--- {host.name} {name}", *said, sep="\n")
        for host in self.hosts():
            host.stop_qemu()
            host.kill_daemon()
            if host.proxy:
                host.proxy.close()
            run("ip", "netns", "del", host.netns, check=False)
        shutil.rmtree(self.dir, ignore_errors=True)

    def add_flows(self, count):
        for i in range(count):
            nat = ["-n", NAT] if i % 2 else []
            self.a.ns("conntrack", "-I", "-p", "tcp", "-s", GUEST, "-d",
                      "192.0.2.5", "--sport", str(1000 + i), "--dport", "80",
                      "--state", "ESTABLISHED", "-t", "40000", "-u",
                      "SEEN_REPLY,ASSURED", *nat)

    def cut_network(self):
        """Between the hosts everything is lost, in silence."""
        for host in self.hosts():
            host.ns("nft", "add table netdev cut; add chain netdev cut in "
                    "{ type filter hook ingress device mig priority 0; "
                    "policy drop; }")

    def mend_network(self):
        for host in self.hosts():
            host.ns("nft", "delete table netdev cut", check=False)

    @staticmethod
    def resolve(here, there):
        """The operator's decision, with the code that one host prints."""
        said = there.sc("resolve", VM, "--there", "--json")
        here.sc("resolve", VM, "--here", "--code", json.loads(said)["code"])

    @staticmethod
    def redirect_stream(source):
        """To a StreamProxy, which goes on to port 4445."""
        source.ns("nft", "add table ip mitm; add chain ip mitm out { type nat "
                  "hook output priority -100; }; add rule ip mitm out "
                  "oifname mig tcp dport 4444 redirect to :5555")

    def migrate(self, source, destination, wait=True, capabilities=(),
                listen=4444, old=False):
        """@old: a QEMU before 9.1, which ends if it cannot be incoming."""
        for host in source, destination:
            host.qmp.cmd("migrate-set-capabilities", capabilities=[
                {"capability": c, "state": True} for c in capabilities])
        destination.qmp.cmd("migrate-incoming",
                            **{"uri": f"tcp:0.0.0.0:{listen}",
                               **({} if old else {"exit-on-error": False})})
        source.qmp.hmp(f"migrate -d tcp:{destination.address}:4444")
        return self.wait(source) if wait else None

    @staticmethod
    def wait(source, seconds=60):
        """The end of the migration: query-migrate of the source."""
        end = time.time() + seconds
        while time.time() < end:
            info = source.qmp.cmd("query-migrate")
            if info.get("status") in ("completed", "failed", "cancelled"):
                return info
            time.sleep(0.05)
        raise TimeoutError("the migration does not end")


def until(condition, seconds=20):
    end = time.time() + seconds
    while time.time() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def remove_namespaces():
    """This process's, also of a lab that was not whole yet."""
    for name in os.listdir("/run/netns"):
        if name.startswith(f"msc{os.getpid()}-"):
            run("ip", "netns", "del", name, check=False)


def run_one(number, test, output):
    """In a process of its own; its lines go to a file."""
    sys.stdout = output
    try:
        test()
        print(f"ok {number} {test.__name__}")
        return 0
    except Exception as err:  # pylint: disable=broad-except
        where = " < ".join(f"{os.path.basename(at.filename)}:{at.lineno}"
                           for at in reversed(traceback.extract_tb(
                               err.__traceback__)))
        text = repr(err).replace("\n", " ")
        print(f"not ok {number} {test.__name__}\n# {text}\n# at {where}")
        return 1
    finally:
        output.flush()
        remove_namespaces()


def finish_one(children):
    """Waits for one of the children and shows what it said."""
    pid, status = os.wait()
    output = children.pop(pid)
    output.seek(0)
    sys.stdout.write(output.read())
    sys.stdout.flush()
    output.close()
    return status != 0


def main(tests, jobs=2):
    """Runs the tests, @jobs at a time, one TAP line each as they end."""
    children = {}
    parent = os.getpid()

    def terminate(*_):
        for pid in children if os.getpid() == parent else ():
            os.kill(pid, signal.SIGTERM)
        sys.exit(1)

    signal.signal(signal.SIGTERM, terminate)
    only = sys.argv[1:]
    failed = 0
    for number, test in enumerate(tests, 1):
        if only and not any(fnmatch.fnmatch(test.__name__, o) for o in only):
            continue
        while len(children) >= jobs:
            failed += finish_one(children)
        output = tempfile.TemporaryFile("w+")
        pid = os.fork()
        if not pid:
            sys.exit(run_one(number, test, output))
        children[pid] = output
    while children:
        failed += finish_one(children)
    sys.exit(1 if failed else 0)
