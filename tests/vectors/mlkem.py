# SPDX-License-Identifier: GPL-2.0-or-later
"""X-Wing (draft-connolly-cfrg-xwing-kem) with ML-KEM-768 (FIPS 203): keys from
the seed, and decapsulation. Slow and not constant in time: for vectors only."""
import hashlib

from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey, X25519PublicKey)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Q, N, K, ETA, DU, DV = 3329, 256, 3, 2, 10, 4


def bit_reversed(i):
    return int(f"{i:07b}"[::-1], 2)


ZETAS = [pow(17, bit_reversed(i), Q) for i in range(128)]
GAMMAS = [pow(17, 2 * bit_reversed(i) + 1, Q) for i in range(128)]


def ntt(f):
    f, i, size = list(f), 1, 128
    while size >= 2:
        for start in range(0, N, 2 * size):
            zeta, i = ZETAS[i], i + 1
            for j in range(start, start + size):
                t = zeta * f[j + size] % Q
                f[j + size], f[j] = (f[j] - t) % Q, (f[j] + t) % Q
        size //= 2
    return f


def inverse_ntt(f):
    f, i, size = list(f), 127, 2
    while size <= 128:
        for start in range(0, N, 2 * size):
            zeta, i = ZETAS[i], i - 1
            for j in range(start, start + size):
                t = f[j]
                f[j] = (t + f[j + size]) % Q
                f[j + size] = zeta * (f[j + size] - t) % Q
        size *= 2
    return [x * 3303 % Q for x in f]


def multiply(a, b):
    out = []
    for i in range(128):
        a0, a1, b0, b1 = a[2 * i], a[2 * i + 1], b[2 * i], b[2 * i + 1]
        out += [(a0 * b0 + a1 * b1 * GAMMAS[i]) % Q, (a0 * b1 + a1 * b0) % Q]
    return out


def add(*polynomials):
    return [sum(c) % Q for c in zip(*polynomials)]


def subtract(a, b):
    return [(x - y) % Q for x, y in zip(a, b)]


def sample_ntt(seed):
    stream, out, at = hashlib.shake_128(seed).digest(3 * 1024), [], 0
    while len(out) < N:
        a, b, c = stream[at:at + 3]
        at += 3
        out += [d for d in (a + 256 * (b % 16), b // 16 + 16 * c) if d < Q]
    return out[:N]


def sample_cbd(seed, number):
    data = hashlib.shake_256(seed + bytes([number])).digest(64 * ETA)
    bits = [data[i // 8] >> i % 8 & 1 for i in range(8 * len(data))]
    return [(sum(bits[2 * ETA * i:2 * ETA * i + ETA]) -
             sum(bits[2 * ETA * i + ETA:2 * ETA * (i + 1)])) % Q
            for i in range(N)]


def encode(f, d):
    value = sum(x << d * i for i, x in enumerate(f))
    return value.to_bytes(32 * d, "little")


def decode(data, d):
    value = int.from_bytes(data, "little")
    return [value >> d * i & (1 << d) - 1 for i in range(N)]


def compress(f, d):
    return [((x << d + 1) + Q) // (2 * Q) % (1 << d) for x in f]


def decompress(f, d):
    return [(2 * Q * x + (1 << d)) >> d + 1 for x in f]


def matrix(rho):
    return [[sample_ntt(rho + bytes([j, i])) for j in range(K)]
            for i in range(K)]


def key_gen(d):
    digest = hashlib.sha3_512(d + bytes([K])).digest()
    rho, sigma = digest[:32], digest[32:]
    a = matrix(rho)
    s = [ntt(sample_cbd(sigma, i)) for i in range(K)]
    e = [ntt(sample_cbd(sigma, K + i)) for i in range(K)]
    t = [add(*(multiply(a[i][j], s[j]) for j in range(K)), e[i])
         for i in range(K)]
    return b"".join(encode(x, 12) for x in t) + rho, s


def encrypt(public, message, coins):
    t = [decode(public[384 * i:384 * (i + 1)], 12) for i in range(K)]
    a = matrix(public[384 * K:])
    y = [ntt(sample_cbd(coins, i)) for i in range(K)]
    e1 = [sample_cbd(coins, K + i) for i in range(K)]
    e2 = sample_cbd(coins, 2 * K)
    u = [add(inverse_ntt(add(*(multiply(a[j][i], y[j]) for j in range(K)))),
             e1[i]) for i in range(K)]
    v = add(inverse_ntt(add(*(multiply(t[j], y[j]) for j in range(K)))), e2,
            decompress(decode(message, 1), 1))
    return (b"".join(encode(compress(x, DU), DU) for x in u) +
            encode(compress(v, DV), DV))


def decapsulate(d, z, ciphertext):
    public, s = key_gen(d)
    size = 32 * DU
    u = [decompress(decode(ciphertext[size * i:size * (i + 1)], DU), DU)
         for i in range(K)]
    v = decompress(decode(ciphertext[size * K:], DV), DV)
    w = subtract(v, inverse_ntt(add(*(multiply(s[i], ntt(u[i]))
                                      for i in range(K)))))
    message = encode(compress(w, 1), 1)
    digest = hashlib.sha3_512(message +
                              hashlib.sha3_256(public).digest()).digest()
    if encrypt(public, message, digest[32:]) != ciphertext:
        return hashlib.shake_256(z + ciphertext).digest(32)
    return digest[:32]


def xwing_expand(seed):
    data = hashlib.shake_256(seed).digest(96)
    return data[:32], data[32:64], X25519PrivateKey.from_private_bytes(
        data[64:])


def raw(key):
    return key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def xwing_public(seed):
    d, _, x = xwing_expand(seed)
    return key_gen(d)[0] + raw(x)


def xwing_decapsulate(seed, ciphertext):
    d, z, x = xwing_expand(seed)
    point = ciphertext[1088:]
    return hashlib.sha3_256(
        decapsulate(d, z, ciphertext[:1088]) +
        x.exchange(X25519PublicKey.from_public_bytes(point)) + point + raw(x) +
        rb"\.//^" + b"\\").digest()
