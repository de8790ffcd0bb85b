# SPDX-License-Identifier: GPL-2.0-or-later
"""The suites of docs/transport.md, decrypting only. AES-GCM and ChaCha20 come
from OpenSSL (python3-cryptography), AEGIS from its draft
(draft-irtf-cfrg-aegis-aead), the X of XChaCha20 from its own."""
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305


class Refused(Exception):
    """What a decoder must not accept."""


def xor(*blocks):
    out = bytes(len(blocks[0]))
    for block in blocks:
        out = bytes(a ^ b for a, b in zip(out, block))
    return out


def band(a, b):
    return bytes(x & y for x, y in zip(a, b))


# ---- AES round (FIPS 197), as AEGIS uses it ----

def double(x):
    return (x << 1 ^ (0x1b if x & 0x80 else 0)) & 0xff


def make_sbox():
    sbox, p, q = [0x63] * 256, 1, 1
    while True:
        p ^= double(p)                          # times 3
        q ^= q << 1
        q ^= q << 2
        q ^= q << 4
        q &= 0xff
        if q & 0x80:
            q ^= 0x09                           # divided by 3
        s = q
        for turn in range(1, 5):
            s ^= (q << turn | q >> (8 - turn)) & 0xff
        sbox[p] = s ^ 0x63
        if p == 1:
            return sbox


SBOX = make_sbox()


def aes_round(state, key):
    s = [SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]
    out = bytearray()
    for c in range(0, 16, 4):
        a = s[c:c + 4]
        for i in range(4):
            out.append(double(a[i]) ^ double(a[(i + 1) % 4]) ^ a[(i + 1) % 4] ^
                       a[(i + 2) % 4] ^ a[(i + 3) % 4])
    return xor(out, key)


# ---- AEGIS ----

C0 = bytes.fromhex("000101020305080d1522375990e97962")
C1 = bytes.fromhex("db3d18556dc22ff12011314273b528dd")


def pad(data, size):
    return data + bytes(-len(data) % size)


def lengths(ad, message):
    return struct.pack("<QQ", 8 * len(ad), 8 * len(message))


class Aegis128L:
    rate = 32

    def __init__(self, key, nonce):
        self.s = [xor(key, nonce), C1, C0, C1, xor(key, nonce), xor(key, C0),
                  xor(key, C1), xor(key, C0)]
        for _ in range(10):
            self.update(nonce + key)

    def update(self, block):
        s = self.s
        words = {0: block[:16], 4: block[16:]}
        self.s = [aes_round(s[i - 1], xor(s[i], words.get(i, bytes(16))))
                  for i in range(8)]

    def key_stream(self):
        s = self.s
        return (xor(s[6], s[1], band(s[2], s[3])) +
                xor(s[2], s[5], band(s[6], s[7])))

    def tag(self, sizes):
        t = xor(self.s[2], sizes)
        for _ in range(7):
            self.update(t + t)
        return xor(*self.s[:4]) + xor(*self.s[4:])


class Aegis256:
    rate = 16

    def __init__(self, key, nonce):
        k0, k1, n0, n1 = key[:16], key[16:], nonce[:16], nonce[16:]
        self.s = [xor(k0, n0), xor(k1, n1), C1, C0, xor(k0, C0), xor(k1, C1)]
        for _ in range(4):
            for block in k0, k1, xor(k0, n0), xor(k1, n1):
                self.update(block)

    def update(self, block):
        s = self.s
        self.s = [aes_round(s[i - 1], xor(s[i], block) if i == 0 else s[i])
                  for i in range(6)]

    def key_stream(self):
        s = self.s
        return xor(s[1], s[4], s[5], band(s[2], s[3]))

    def tag(self, sizes):
        t = xor(self.s[3], sizes)
        for _ in range(7):
            self.update(t)
        return xor(*self.s[:3]) + xor(*self.s[3:])


def aegis_open(kind, key, nonce, ad, sealed):
    if len(sealed) < 32:
        raise Refused("shorter than a tag")
    body, tag = sealed[:-32], sealed[-32:]
    state, plain = kind(key, nonce), b""
    padded = pad(ad, kind.rate)
    for at in range(0, len(padded), kind.rate):
        state.update(padded[at:at + kind.rate])
    for at in range(0, len(body), kind.rate):
        block = body[at:at + kind.rate]
        block = xor(block, state.key_stream()[:len(block)])
        state.update(pad(block, kind.rate))
        plain += block
    if state.tag(lengths(ad, plain)) != tag:
        raise Refused("wrong tag")
    return plain


# ---- XChaCha20-Poly1305, AES-256-GCM ----

def hchacha20(key, nonce):
    x = list(struct.unpack("<16I", b"expand 32-byte k" + key + nonce))

    def quarter(a, b, c, d):
        for into, other, by, turn in ((a, b, d, 16), (c, d, b, 12),
                                      (a, b, d, 8), (c, d, b, 7)):
            x[into] = (x[into] + x[other]) & 0xffffffff
            v = x[by] ^ x[into]
            x[by] = (v << turn | v >> (32 - turn)) & 0xffffffff

    for _ in range(10):
        for column in range(4):
            quarter(*(column + 4 * row for row in range(4)))
        for column in range(4):
            quarter(*((column + row) % 4 + 4 * row for row in range(4)))
    return struct.pack("<8I", *x[:4], *x[12:])


def openssl_open(cipher, nonce, ad, sealed):
    try:
        return cipher.decrypt(nonce, sealed, ad)
    except (InvalidTag, ValueError) as error:
        raise Refused("wrong tag") from error


def xchacha20_open(key, nonce, ad, sealed):
    sub = ChaCha20Poly1305(hchacha20(key, nonce[:16]))
    return openssl_open(sub, bytes(4) + nonce[16:], ad, sealed)


def integrity_open(key, nonce, ad, sealed):
    plain, tag = sealed[:-32], sealed[-32:]
    aegis_open(Aegis128L, key, nonce, ad + plain, tag)
    return plain


# name: number, key, nonce, tag, opener
SUITES = {
    "aegis-128l": (1, 16, 16, 32, lambda *a: aegis_open(Aegis128L, *a)),
    "aegis-256": (2, 32, 32, 32, lambda *a: aegis_open(Aegis256, *a)),
    "aes-256-gcm": (3, 32, 12, 16,
                    lambda k, *a: openssl_open(AESGCM(k), *a)),
    "xchacha20-poly1305": (4, 32, 24, 16, xchacha20_open),
    "integrity-only": (5, 16, 16, 32, integrity_open),
}
