# SPDX-License-Identifier: GPL-2.0-or-later
"""Two men in the middle.

HelperProxy sits between a QEMU and its helper (docs/helper-protocol.md):

    QEMU ---- proxy.sock [HelperProxy] helper.sock ---- migration-scd

and can hold one request, or its answer, until told to go on, or change it.

StreamProxy sits in the migration stream (docs/transport.md). Host A's nft
sends connections to B's port 4444 to it; B's QEMU listens on 4445. Neither
end sees any difference, for the addresses stay:

    QEMU A ---- [StreamProxy, in A's network namespace] ---- QEMU B

It knows where each handshake message and each record begins and ends, and can
change, drop, repeat or swap them, or cut the stream.
"""
import ctypes
import os
import socket
import struct
import threading

REQUESTS = {1: "OPEN", 2: "CHANNEL", 3: "FREEZE", 4: "COLLECT", 5: "STAGE",
            6: "VALIDATE", 7: "RELEASE", 8: "COMMIT", 9: "FINISH", 10: "THAW",
            11: "ABORT", 12: "VERDICT", 13: "ATTACH",
            14: "PRECOPY", 15: "BATCH", 16: "READY"}
REPLY = 0x8000
ERROR = 0xffff
TAGS = {1: 32, 2: 32, 3: 16, 4: 16}     # bytes, by suite
CLONE_NEWNET = 0x40000000
HOLD_SECONDS = 120


class Gate:
    """A place where the proxy stops once; the test is told, and lets go."""

    def __init__(self, what, reply):
        self.what, self.reply = what, reply
        self.reached, self.opened = threading.Event(), threading.Event()

    def wait(self, seconds=60):
        if not self.reached.wait(seconds):
            raise TimeoutError(f"nobody came to {self.what}")

    def open(self):
        self.opened.set()


def read_exactly(sock, count):
    data = b""
    while len(data) < count:
        part = sock.recv(count - len(data))
        if not part:
            return None
        data += part
    return data


def shut(*socks):
    for sock in socks:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class HelperProxy:
    def __init__(self, path, helper):
        self.path, self.helper = path, helper
        self.gates = []
        self.passed = {name: threading.Event() for name in REQUESTS.values()}
        # (request's name, is it a reply, payload) -> payload
        self.change = lambda name, reply, payload: payload
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def hold(self, what, reply=False):
        gate = Gate(what, reply)
        self.gates.append(gate)
        return gate

    def wait_passed(self, what, seconds=60):
        """Until the helper has been sent such a request."""
        if not self.passed[what].wait(seconds):
            raise TimeoutError(f"nobody asked for {what}")

    def close(self):
        for gate in self.gates:
            gate.open()
        shut(self.listener)
        self.listener.close()

    def accept(self):
        while True:
            try:
                qemu, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(qemu,),
                             daemon=True).start()

    def serve(self, qemu):
        helper = socket.socket(socket.AF_UNIX)
        try:
            helper.connect(self.helper)
            while self.forward(qemu, helper):
                pass
        except OSError:
            pass
        finally:
            # What was taken with a descriptor is closed by its user.
            shut(qemu, helper)
            qemu.close()
            helper.close()

    def pause(self, name, reply):
        for gate in self.gates:
            if (gate.what, gate.reply) == (name, reply) and \
                    not gate.reached.is_set():
                gate.reached.set()
                gate.opened.wait(HOLD_SECONDS)

    def forward(self, qemu, helper):
        """One request and its answer."""
        first, fds, _, _ = socket.recv_fds(qemu, 1, 4)
        try:
            if not first:
                return False
            frame = self.rest_of_frame(qemu, first)
            if not frame:
                return False
            name, payload = REQUESTS.get(frame[0], "?"), frame[1]
            self.pause(name, False)
            payload = self.change(name, False, payload)
            head = struct.pack(">IHH", len(payload), frame[0], 0)
            socket.send_fds(helper, [head], fds)
            helper.sendall(payload)
            if frame[0] in REQUESTS:
                self.passed[name].set()
        finally:
            for fd in fds:
                os.close(fd)
        first = helper.recv(1)
        frame = self.rest_of_frame(helper, first) if first else None
        if not frame:
            return False
        payload = frame[1]
        self.pause(name, True)
        if frame[0] != ERROR:
            payload = self.change(name, True, payload)
        qemu.sendall(struct.pack(">IHH", len(payload), frame[0], 0) + payload)
        return True

    @staticmethod
    def rest_of_frame(sock, first):
        head = read_exactly(sock, 7)
        if not head:
            return None
        length, kind, _ = struct.unpack(">IHH", first + head)
        payload = read_exactly(sock, length) if length else b""
        return None if payload is None else (kind, payload)


def enter_netns(name):
    """For the calling thread only."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{name}", "rb") as netns:
        if libc.setns(netns.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")


class Unit:
    """One handshake message or record, with its framing."""

    def __init__(self, channel, forward, number, handshake, data):
        self.channel = channel          # 0 is the main one
        self.forward = forward          # from the source
        self.number = number            # within handshake or records
        self.handshake, self.data = handshake, data


class Cut(Exception):
    """Raised by a tamper function: after these bytes the stream ends."""


class StreamProxy:
    LISTEN, TARGET = 4444, 4445

    def __init__(self, netns, target):
        self.target = target
        # Unit -> list of bytes to send in its place; may raise Cut.
        self.tamper = lambda unit: [unit.data]
        self.suite = None
        self.channels = 0
        self.units = []                 # what went by: (channel, forward, ..)
        self.lock = threading.Lock()
        self.ready = threading.Event()
        self.listener = None
        self.netns = netns
        threading.Thread(target=self.run, daemon=True).start()
        if not self.ready.wait(10) or not self.listener:
            raise RuntimeError("the stream proxy does not start")

    def close(self):
        shut(self.listener)
        self.listener.close()

    def run(self):
        try:
            enter_netns(self.netns)
            self.listener = socket.create_server(("0.0.0.0", 5555),
                                                 backlog=16)
        finally:
            self.ready.set()
        while True:
            try:
                source, _ = self.listener.accept()
                destination = socket.create_connection(
                    (self.target, self.TARGET), timeout=10)
            except OSError:
                return
            destination.settimeout(None)
            with self.lock:
                channel = self.channels
                self.channels += 1
            for forward in True, False:
                threading.Thread(
                    target=self.pump, daemon=True,
                    args=(channel, forward, source, destination)).start()

    def pump(self, channel, forward, source, destination):
        come, go = (source, destination) if forward else (destination, source)
        try:
            for unit in self.read_units(channel, forward, come):
                with self.lock:
                    self.units.append((unit.channel, unit.forward,
                                       unit.handshake, unit.number,
                                       len(unit.data)))
                for data in self.tamper(unit):
                    go.sendall(data)
        except Cut as cut:
            go.sendall(*cut.args)
        except OSError:
            pass
        shut(come, go)

    def read_units(self, channel, forward, sock):
        messages, number, more = 0, 0, True
        while more:
            data = self.read_message(sock)
            if data is None:
                return
            kind = data[4]
            if kind == 2:
                self.suite = data[8]
            messages += 1
            # HELLO and AUTH, ACCEPT and ADMIT; one of each FURTHER.
            more = kind < 16 and messages < 2
            yield Unit(channel, forward, messages - 1, True, data)
        while True:
            head = read_exactly(sock, 8)
            if not head:
                return
            rest = read_exactly(sock, struct.unpack(">I", head[:4])[0] +
                                TAGS[self.suite])
            if rest is None:
                return
            yield Unit(channel, forward, number, False, head + rest)
            number += 1

    @staticmethod
    def read_message(sock):
        head = read_exactly(sock, 4)
        body = read_exactly(sock, struct.unpack(">I", head)[0]) if head \
            else None
        return None if body is None else head + body
