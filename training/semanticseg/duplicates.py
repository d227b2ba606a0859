"""Find near-duplicates by MinHash (Broder 1997) over words, with `datasketch`."""

import hashlib
import re

import numpy as np
from datasketch import MinHash, MinHashLSH

from training.corpus import SPLITS, Row

_PERMUTATIONS = 64
_SCHEME = "affine32"
_SHINGLE = 5
_WORD = re.compile(r"\w+")


def signature(text: str) -> list[int]:
    """MinHash of the text's five-word shingles, the same on every machine."""
    words = [word.lower() for word in _WORD.findall(text)]
    shingles = {" ".join(words[i : i + _SHINGLE]) for i in range(max(1, len(words) - _SHINGLE + 1))}
    found = _minhash()
    found.update_batch([shingle.encode() for shingle in shingles])
    return [int(value) for value in found.hashvalues]


def find_duplicates(rows: list[Row], signatures: list[list[int]], threshold: float) -> dict[int, int]:
    """Index of each near-duplicate -> index of its original. Duplicates are dropped from train first, then dev."""
    index = MinHashLSH(threshold, _PERMUTATIONS)
    hashes = [_minhash(hashvalues=np.array(each, np.uint64)) for each in signatures]
    repeated: dict[int, int] = {}
    for i in sorted(range(len(rows)), key=lambda i: (-SPLITS.index(rows[i]["split"]), i)):
        alike = [j for j in index.query(hashes[i]) if hashes[i].jaccard(hashes[j]) >= threshold]
        if alike:
            repeated[i] = min(alike)
        else:
            index.insert(i, hashes[i])
    return repeated


def _minhash(hashvalues: np.ndarray | None = None) -> MinHash:
    return MinHash(_PERMUTATIONS, seed=1, hashfunc=_hash, hashvalues=hashvalues, scheme=_SCHEME)


def _hash(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=4).digest(), "little")
