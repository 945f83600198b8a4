"""Seeded permutations that are the same on every machine and for every numpy version.

numpy promises no stable stream for `Generator.permutation`, and a replay years later has to deal the same rows.
So the order is a sort by SplitMix64 (Steele, Lea & Flood 2014) of key and index.
"""

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def random_bits(n: int, *key: int | str) -> np.ndarray:
    """n uint64 values that depend only on `key` and their index (a prefix of a longer draw with the same key)."""
    seed = int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8], "little")
    with np.errstate(over="ignore"):
        x = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN + np.uint64(seed)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(n: int, *key: int | str) -> np.ndarray:
    """n float64 values in [0, 1), from the same stream."""
    return (random_bits(n, *key) >> np.uint64(11)) * 2.0**-53


def permutation(n: int, *key: int | str) -> np.ndarray:
    """A permutation of range(n), int64."""
    return np.argsort(random_bits(n, *key), kind="stable")
