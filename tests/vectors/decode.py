#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""A second decoder of the transport, written from docs/transport.md and
docs/context.md alone: it shares no code and no library with the first one.
Reads the vectors beside it, and refuses each of them with a bit changed."""
import glob
import hashlib
import json
import os
import struct
import sys

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey, Ed25519PublicKey)
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey, X25519PublicKey)

from ciphers import SUITES, Refused, xchacha20_open
from mlkem import raw, xwing_decapsulate, xwing_public

KEMS = {1: ("x25519", 32, 32), 2: ("x-wing", 1216, 1120)}


def need(condition, what):
    if not condition:
        raise Refused(what)


def digest(data):
    return hashlib.blake2b(data).digest()


def kdf(secret, label, context):
    return hashlib.blake2b(b"migration-sc v1 " + label + b"\0" + context,
                           key=secret, digest_size=32).digest()


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        need(self.at + n <= len(self.data), "cut short")
        self.at += n
        return self.data[self.at - n:self.at]

    def number(self, n):
        return int.from_bytes(self.take(n), "big")

    def end(self):
        need(self.at == len(self.data), "trailing bytes")


def message(data, kind):
    r = Reader(data)
    need(r.take(2) == bytes([kind, 0]), "not the message that must come now")
    return r


def add_piece(t, piece):
    return digest(t + struct.pack(">I", len(piece)) + piece)


def sealed(data, at, key, count):
    return xchacha20_open(key, struct.pack("<Q", count) + bytes(16), data[:2],
                          data[at:])


def check_signature(key, signature, label, t, body):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(
            signature, label + b"\0" + digest(t + body))
    except (InvalidSignature, ValueError) as error:
        raise Refused("signature") from error


def read_hello(data):
    r = message(data, 1)
    need(r.number(4) == 0x4d534354, "magic")
    version, oldest = r.number(2), r.number(2)
    need(oldest <= 1 <= version, "version")
    hello = {"migration_id": r.take(16), "nonce": r.take(32)}
    hello["suites"] = list(r.take(r.number(1)))
    need(1 <= len(hello["suites"]) <= 8, "suites")
    kems = [(r.number(1), r.take(r.number(2))) for _ in range(r.number(1))]
    hello["kems"] = dict(kems)
    need(len(hello["kems"]) == len(kems) and 1 <= len(kems) <= 8, "twice")
    need(len(set(hello["suites"])) == len(hello["suites"]), "twice")
    r.end()
    return hello


def read_accept_head(data, hello):
    r = message(data, 2)
    need(r.number(2) == 1, "version")
    suite, kem = r.number(1), r.number(1)
    need(suite in hello["suites"] and kem in hello["kems"] and kem in KEMS,
         "not offered")
    ciphertext = r.take(KEMS[kem][2])
    r.take(32)
    return suite, kem, ciphertext, r.at


def shared_secret(name, secret, ciphertext, public):
    if name == "x-wing":
        need(xwing_public(secret) == public, "public key")
        return xwing_decapsulate(secret, ciphertext)
    key = X25519PrivateKey.from_private_bytes(secret)
    need(raw(key) == public, "public key")
    result = key.exchange(X25519PublicKey.from_public_bytes(ciphertext))
    return hashlib.blake2b(b"migration-sc v1 x25519 kem\0" + ciphertext +
                           public, key=result, digest_size=32).digest()


def decode_handshake(v):
    """What both sides come to know, under the vector's own names."""
    hello = read_hello(v["hello"])
    suite, kem, ciphertext, head = read_accept_head(v["accept"], hello)
    got = {"migration_id": hello["migration_id"], "kem": KEMS[kem][0]}
    got["suite"] = next(n for n, s in SUITES.items() if s[0] == suite)
    got["shared"] = shared_secret(got["kem"], v["kem_secret"], ciphertext,
                                  hello["kems"][kem])
    t1 = add_piece(bytes(64), v["hello"])
    t2 = add_piece(t1, v["accept"][:head])
    got["prk"] = prk = kdf(got["shared"], b"handshake", t2)
    source = kdf(prk, b"source handshake", b"")
    destination = kdf(prk, b"destination handshake", b"")
    got["source_handshake_key"] = source
    got["destination_handshake_key"] = destination

    body = sealed(v["accept"], head, destination, 0)
    need(len(body) == 96, "identity")
    check_signature(body[:32], body[32:],
                    b"migration-sc v1 destination signature", t2, body[:32])
    got["destination_key"] = body[:32]

    t3 = add_piece(t2, v["accept"])
    message(v["auth"], 3)
    body = sealed(v["auth"], 2, source, 0)
    r = Reader(body)
    got["vm"], got["source_key"] = r.take(16), r.take(32)
    got["admission_request"] = r.take(r.number(4))
    signed = body[:r.at]
    signature = r.take(64)
    r.end()
    check_signature(got["source_key"], signature,
                    b"migration-sc v1 source signature", t3, signed)
    got["t4"] = t4 = add_piece(t3, v["auth"])
    message(v["admit"], 4)
    got["admission_answer"] = sealed(v["admit"], 2, destination, 1)

    master = kdf(prk, b"session", t4)
    got["source_traffic"] = kdf(master, b"source traffic", b"")
    got["destination_traffic"] = kdf(master, b"destination traffic", b"")
    got["channels"] = kdf(master, b"channels", b"")
    got["context"] = kdf(master, b"context", b"")
    return got


def decode_further(v, channels, migration_id):
    request, reply = v["further"], v["further_ok"]
    r = message(request, 16)
    need(r.number(4) == 0x4d534354 and r.number(2) == 1, "version")
    need(r.take(16) == migration_id, "another migration")
    got = {"kind": r.number(1), "number": r.number(4), "epoch": r.number(4)}
    r.take(32)
    need(r.take(32) == kdf(channels, b"further source", request[:65]), "MAC")
    r.end()
    r = message(reply, 17)
    r.take(32)
    need(r.take(32) == kdf(channels, b"further destination",
                           request + reply[:34]), "MAC")
    r.end()
    for side in "source", "destination":
        got[f"{side}_traffic"] = kdf(
            channels, f"further {side} traffic".encode(), request + reply)
    return got


def decode_records(v):
    """Payloads of a stream, which must end well."""
    _, key_len, nonce_len, tag_len, open_ = SUITES[v["suite"]]
    stream = Reader(b"".join(r["record"] for r in v["records"]))
    key, count, out = v["key"], 0, []
    while True:
        header = stream.take(8)
        length, kind, flags, zero = struct.unpack(">IBBH", header)
        need(kind in (1, 2) and not flags & ~1 and not zero, "header")
        need((kind == 1) == (length > 0) and length <= 524288, "length")
        nonce = (struct.pack("<Q", count) + bytes(24))[:nonce_len]
        out.append(open_(key[:key_len], nonce, header,
                         stream.take(length + tag_len)))
        count += 1
        if flags:
            key, count = kdf(key, b"rekey", b""), 0
        if kind == 2:
            stream.end()
            return out


def decode_context(v):
    suite = v["session_suite"]
    if suite == "integrity-only":
        suite = "xchacha20-poly1305"
    _, key_len, nonce_len, tag_len, open_ = SUITES[suite]
    plain = b""
    for number, chunk in enumerate(v["chunks"]):
        r = Reader(chunk)
        need(r.number(4) == 0x4d534343 and r.number(4) == number, "place")
        kind = r.number(1)
        need(kind in (1, 2) and r.take(3) == bytes(3), "type")
        need(r.number(4) == len(chunk) - 16 - tag_len, "length")
        body = open_(v["context"][:key_len],
                     (struct.pack("<I", number) + bytes(28))[:nonce_len],
                     chunk[:16] + v["migration_id"] + v["vm"], chunk[16:])
        if kind == 2:
            need(body == struct.pack(">IQ", number, len(plain)) +
                 hashlib.blake2b(plain, digest_size=32).digest(), "END")
            need(number == len(v["chunks"]) - 1, "after END")
            return plain
        plain += body
    raise Refused("no END")


def from_hex(node, names=("suite", "session_suite", "kem")):
    """The vector with bytes for its hexadecimal strings."""
    if isinstance(node, dict):
        return {k: x if k in names else from_hex(x) for k, x in node.items()}
    if isinstance(node, list):
        return [from_hex(x) for x in node]
    return bytes.fromhex(node) if isinstance(node, str) else node


def assert_same(got, vector):
    for name, value in got.items():
        assert vector[name] == value, name


def assert_refused(decode, vector, node, member):
    """With any one bit of a byte changed; every byte up to 64, then some."""
    good = node[member]
    places = sorted(set(range(min(len(good), 64))) |
                    set(range(0, len(good), 97)) | {len(good) - 1})
    for at in places:
        node[member] = good[:at] + bytes([good[at] ^ 1 << at % 8]) + \
            good[at + 1:]
        try:
            decode(vector)
        except Refused:
            continue
        finally:
            node[member] = good
        raise AssertionError(f"{member}: byte {at} changed, and accepted")


def check_handshake(v):
    for side in "source", "destination":
        key = Ed25519PrivateKey.from_private_bytes(v[f"{side}_seed"])
        v[f"{side}_key"] = raw(key)
    assert_same(decode_handshake(v), v)
    further = v["further_channel"]
    assert_same(decode_further(further, v["channels"], v["migration_id"]),
                further)
    names = ["auth", "admit"]
    if v["kem"] == "x25519":
        names += ["hello", "accept"]            # X-Wing is slow here
    for name in names:
        assert_refused(decode_handshake, v, v, name)
    for name in "further", "further_ok":
        assert_refused(
            lambda f: decode_further(f, v["channels"], v["migration_id"]),
            further, further, name)


def check_records(v):
    assert decode_records(v) == [r["payload"] for r in v["records"]]
    for record in v["records"]:
        assert_refused(decode_records, v, record, "record")
    for wrong in (v["records"][1:], v["records"][:-1], v["records"][::-1]):
        try:
            decode_records(dict(v, records=wrong))
        except Refused:
            continue
        raise AssertionError("records dropped or moved, and accepted")


def check_context(v):
    assert decode_context(v) == v["plain"]
    for i in range(len(v["chunks"])):
        assert_refused(decode_context, v, v["chunks"], i)
    for name in "migration_id", "vm", "context":
        # A suite with a shorter key does not look at its end.
        good = v[name]
        v[name] = bytes([good[0] ^ 1]) + good[1:]
        try:
            decode_context(v)
        except Refused:
            v[name] = good
            continue
        raise AssertionError(f"another {name}, and accepted")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    checks = {"handshake": check_handshake, "records": check_records,
              "context": check_context}
    files = sorted(glob.glob(os.path.join(here, "*.json")))
    failed = not files
    for number, path in enumerate(files, 1):
        name = os.path.basename(path)[:-len(".json")]
        with open(path, encoding="ascii") as f:
            vector = from_hex(json.load(f))
        try:
            checks[name.split("-")[0]](vector)
            print(f"ok {number} /decode/{name}", flush=True)
        except (AssertionError, Refused) as error:
            failed = True
            print(f"not ok {number} /decode/{name}")
            print(f"# {type(error).__name__}: {error}", flush=True)
    print(f"1..{len(files)}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
