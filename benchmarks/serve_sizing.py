"""Size many replicas on one shared store, on paper and by simulation: ``python -m benchmarks.serve_sizing``.

Questions ask about collections, and about blocks within a collection, by Zipf's law. A router sends each question to a
replica, which has its most recently used blocks in host memory and reads the others from the shared store. Compared are
routers that choose at random, and by consistent hashing of the collection, of a part of the collection (by the
question's first block), or of the first block.
"""

import argparse
import bisect
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import print_table

POINTS = 200
"""Points of each replica on the ring; with more of them the shares are more equal."""


class Ring:
    """Consistent hashing: a key keeps its replica unless that replica leaves or a new one takes over its part."""

    def __init__(self, n_replicas: int):
        points = sorted(
            (_hash(f"{replica}/{point}"), replica) for replica in range(n_replicas) for point in range(POINTS)
        )
        self._at, self._replicas = [at for at, _ in points], [replica for _, replica in points]
        self._known: dict[int, int] = {}

    def replica(self, key: int) -> int:
        """The replica of a key."""
        if key not in self._known:
            place = bisect.bisect(self._at, _hash(str(key))) % len(self._at)
            self._known[key] = self._replicas[place]
        return self._known[key]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def draw_questions(
    n: int, n_blocks: int, n_collections: int, per_question: int, exponent: float, seed: int
) -> Iterator[tuple[int, list[int]]]:
    """Questions as (collection, blocks), all blocks of a collection, which may repeat in a question."""
    draw, size = np.random.default_rng(seed), n_blocks // n_collections
    collections = draw.choice(n_collections, n, p=_zipf(n_collections, exponent))
    ranks = draw.choice(size, (n, per_question), p=_zipf(size, exponent))
    for collection, picked in zip(collections.tolist(), ranks.tolist(), strict=True):
        yield collection, [collection * size + rank for rank in picked]


def _zipf(n: int, exponent: float) -> np.ndarray:
    weights = np.arange(1, n + 1, dtype=np.float64) ** -exponent
    return weights / weights.sum()


def simulate(
    questions: Sequence[tuple[int, list[int]]], n_replicas: int, room: int, route: Callable[[int, list[int]], int]
) -> dict[str, float]:
    """Share of the blocks found in host memory, in the second half of the questions; and how many questions the busiest
    replica gets, as a multiple of the mean.

    Parameters
    ----------
    questions : sequence of (int, list of int)
    n_replicas : int
    room : int
        Blocks that a replica's host memory holds; the least recently used is evicted.
    route : callable
        (collection, blocks) -> replica.
    """
    memories = [OrderedDict[int, None]() for _ in range(n_replicas)]
    n_hits, n_asked, load = 0, 0, [0] * n_replicas
    for number, (collection, blocks) in enumerate(questions):
        replica = route(collection, blocks)
        memory, is_counted = memories[replica], 2 * number >= len(questions)
        load[replica] += is_counted
        for block in dict.fromkeys(blocks):
            found = block in memory
            n_hits += found and is_counted
            n_asked += is_counted
            memory[block] = None
            memory.move_to_end(block)
            if len(memory) > room:
                memory.popitem(last=False)
    return {"host_hits": n_hits / n_asked, "busiest": max(load) * n_replicas / sum(load)}


def paper(args: argparse.Namespace) -> dict[str, float]:
    """Bytes of the store and of each replica's part."""
    block_bytes = args.block_tokens * args.token_bytes
    return {
        "block_mb": block_bytes / 1e6,
        "store_tb": args.blocks * block_bytes / 1e12,
        "blocks_in_host_memory": int(args.host_gb * 1e9 // block_bytes),
        "share_in_all_host_memory": min(1.0, args.replicas * (args.host_gb * 1e9 // block_bytes) / args.blocks),
        "question_mb": args.per_question * block_bytes / 1e6,
        "encoded_gb_per_s": args.encode_tokens_per_s * args.token_bytes / 1e9,
    }


def rows_of(args: argparse.Namespace, sizes: dict[str, float]) -> list[dict[str, Any]]:
    """One row for each router: hit rate, and what the store and a replica's network carry."""
    told = (args.questions, args.blocks, args.collections, args.per_question, args.exponent, args.seed)
    questions, ring, draw = list(draw_questions(*told)), Ring(args.replicas), np.random.default_rng(args.seed + 1)
    at_random = iter(draw.integers(args.replicas, size=len(questions)).tolist())
    routers: dict[str, Callable[[int, list[int]], int]] = {
        "random": lambda collection, blocks: next(at_random),
        "collection": lambda collection, blocks: ring.replica(-1 - collection),
        f"collection in {args.parts} parts": lambda collection, blocks: ring.replica(
            -1 - collection * args.parts - blocks[0] % args.parts
        ),
        "first block": lambda collection, blocks: ring.replica(blocks[0]),
    }
    rows = []
    for name, route in routers.items():
        found = simulate(questions, args.replicas, int(sizes["blocks_in_host_memory"]), route)
        read_mb = (1 - found["host_hits"]) * sizes["question_mb"]
        rate = args.questions_per_s * read_mb / 1e3
        rows.append(
            {
                "routed by": name,
                **found,
                "read_mb_per_question": read_mb,
                "read_ms_at_link": read_mb / args.link_gb_per_s,
                "replica_gb_per_s": rate,
                "store_gb_per_s": rate * args.replicas,
            }
        )
    return rows


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag, default, text in (
        ("--blocks", 10_000_000, "blocks in the store"),
        ("--replicas", 100, "servers"),
        ("--collections", 10_000, "collections of equally many blocks"),
        ("--block-tokens", 200, "tokens of a block"),
        ("--token-bytes", 131_072, "KV of a token in bytes; the default is Llama-3.1-8B's in 16 bits"),
        ("--per-question", 8, "blocks of a question"),
        ("--parts", 8, "parts of a collection"),
        ("--questions", 1_000_000, "questions to simulate; the second half counts"),
        ("--seed", 0, "of the draw"),
    ):
        parser.add_argument(flag, type=int, default=default, help=f"{text} (default: %(default)s)")
    for flag, value, text in (
        ("--exponent", 1.0, "of Zipf's law"),
        ("--host-gb", 256.0, "host memory of a replica for block KV"),
        ("--questions-per-s", 5.0, "questions of a replica a second"),
        ("--link-gb-per-s", 3.0, "network of a replica"),
        ("--encode-tokens-per-s", 40_000.0, "tokens that a replica encodes a second"),
    ):
        parser.add_argument(flag, type=float, default=value, help=f"{text} (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Print both tables and, as the last line, JSON."""
    args = parse(argv)
    sizes = paper(args)
    rows = rows_of(args, sizes)
    print_table([sizes])
    print_table(rows)
    settings = {name: value for name, value in vars(args).items() if name != "json"}
    line = json.dumps({"benchmark": "serve_sizing", "settings": settings, "sizes": sizes, "rows": rows})
    if args.json:
        args.json.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
