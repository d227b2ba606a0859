"""Block KV in vLLM against ordinary vLLM with prefix caching: ``python -m benchmarks.serve --json FILE``.

Runs in vLLM's environment (docs/guides/vllm.md). Both servers run the same weights, with as many pages of KV, at the
same time; rounds of questions go to one and the other in turn, so that a loaded machine slows both alike. Each question
has some of the blocks, drawn as documents are asked about (Zipf), the most popular not always first. The blocks were
encoded before, which is timed alone.
"""

import argparse
import json
import os
import random
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import mean, quantiles
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.common import commit, print_table
from blockrag.attention.format import read_format
from blockrag.generate import Sampling
from blockrag.models.merge import merge
from blockrag.models.shipped import AUTO, find_adapter
from blockrag.vllm.client import VLLMClient

START_S = 600
SIDES = ("ordinary", "block")
VOCABULARY = 40_000
"""Token ids of blocks and questions are drawn below it."""


class Endless(VLLMClient):
    """Has every answer reach its limit, so that both sides decode equally many tokens."""

    def _body(self, *args: Any) -> dict[str, Any]:
        return super()._body(*args) | {"ignore_eos": True}


@contextmanager
def serving(model: str, *flags: str, connector: Mapping[str, Any] | None = None, **environment: str) -> Iterator[str]:
    """A vLLM server in a process of its own, killed at the end as a crash would kill it; yields its URL.

    Parameters
    ----------
    model : str
        Folder of a checkpoint.
    *flags : str
        Further arguments of the server.
    connector : mapping, optional
        Settings of our connector; see `blockrag.vllm.store.Settings`. Without them the server is an ordinary one.
    **environment : str
        Added to this process's environment.

    Raises
    ------
    RuntimeError
        If the server ends, or is not up after `START_S`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--host", "127.0.0.1",
        "--port", str(port), *flags,
    ]  # fmt: skip
    if connector is not None:
        transfer = {
            "kv_connector": "BlockRAGConnector",
            "kv_connector_module_path": "blockrag.vllm.connector",
            "kv_role": "kv_both",
            "kv_connector_extra_config": dict(connector),
        }
        command += ["--kv-transfer-config", json.dumps(transfer)]
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", **os.environ, **environment}
    process = subprocess.Popen(command, env=settings, start_new_session=True)
    try:
        url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_S
        while not _is_up(url):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the server ended with {process.poll()} or is not up; see its output")
            time.sleep(0.5)
        yield url
    finally:
        os.killpg(process.pid, 9)
        process.wait()


def _is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=2):
            return True
    except OSError:
        return False


def draw_questions(
    n: int, blocks: Sequence[Sequence[int]], per_question: int, exponent: float, seed: int
) -> list[tuple[list[Sequence[int]], list[int]]]:
    """Questions as (blocks, tokens of the question); the block of rank r is drawn in proportion to ``r**-exponent``,
    none twice in a question."""
    draw = random.Random(seed)
    weights = [rank**-exponent for rank in range(1, len(blocks) + 1)]
    questions = []
    for _ in range(n):
        picked: dict[int, None] = {}
        while len(picked) < per_question:
            picked[draw.choices(range(len(blocks)), weights)[0]] = None
        questions.append(([blocks[number] for number in picked], [draw.randrange(3, VOCABULARY) for _ in range(40)]))
    return questions


def ask(
    client: VLLMClient, side: str, prefix: list[int], question: tuple[list[Sequence[int]], list[int]], n: int
) -> float:
    """Answer with `n` tokens; returns the seconds to the first."""
    blocks, final = question
    started = time.perf_counter()
    if side == "block":
        tokens = client.answer(prefix, blocks, final, n, Sampling())
    else:
        prompt = [*prefix, *(token for block in blocks for token in block), *final]
        tokens = client.complete("full", prompt, n, Sampling())
    next(tokens)
    first = time.perf_counter() - started
    n_more = sum(1 for _ in tokens)
    assert n_more == n - 1, f"{n_more + 1} tokens came of {n}"
    return first


def run_round(
    client: VLLMClient, side: str, prefix: list[int], questions: Sequence[Any], n_clients: int, n_tokens: int
) -> tuple[dict[str, Any], list[float]]:
    """Have `n_clients` ask at once until all questions are answered; returns a row, and the first tokens in ms."""
    started = time.perf_counter()
    with ThreadPoolExecutor(n_clients) as clients:
        firsts = list(clients.map(lambda question: ask(client, side, prefix, question, n_tokens), questions))
    wall_s = time.perf_counter() - started
    return {
        "side": side,
        "questions": len(questions),
        "wall_s": wall_s,
        **first_tokens([1e3 * first for first in firsts]),
        "questions_per_s": len(questions) / wall_s,
        "load_average": os.getloadavg()[0],
    }, [1e3 * first for first in firsts]


def first_tokens(milliseconds: list[float]) -> dict[str, float]:
    """Mean, median and 95th percentile of first tokens."""
    cuts = quantiles(milliseconds, n=20, method="inclusive")
    return {"ttft_mean_ms": mean(milliseconds), "ttft_p50_ms": cuts[9], "ttft_p95_ms": cuts[18]}


def prefix_hits(url: str) -> float:
    """Share of the tokens asked for that the server's prefix cache had."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as response:
        text = response.read().decode()
    hits, queries = (
        sum(float(value) for value in re.findall(rf"^vllm:prefix_cache_{name}_total{{.*}} (\S+)$", text, re.MULTILINE))
        for name in ("hits", "queries")
    )
    return hits / queries if queries else 0.0


def measure(args: argparse.Namespace, servers: Mapping[str, str], clients: Mapping[str, VLLMClient]) -> dict[str, Any]:
    """Encode the blocks, warm both sides with questions that do not count, then take turns."""
    draw = random.Random(0)
    prefix = [draw.randrange(3, VOCABULARY) for _ in range(30)]
    blocks = [[draw.randrange(3, VOCABULARY) for _ in range(args.block_tokens)] for _ in range(args.blocks)]
    started = time.perf_counter()
    clients["block"].ensure(prefix, blocks)
    encode_s = time.perf_counter() - started
    rows, firsts = [], {side: list[float]() for side in SIDES}
    for number in range(args.rounds + 1):
        n = args.questions if number else min(4, args.questions)
        questions = draw_questions(n, blocks, args.per_question, args.exponent, seed=number)
        for side in SIDES if number % 2 else SIDES[::-1]:
            row, milliseconds = run_round(clients[side], side, prefix, questions, args.clients, args.answer_tokens)
            if number:
                rows.append({"round": number, **row})
                firsts[side] += milliseconds
                print(rows[-1], flush=True)
    totals = [_total(side, [row for row in rows if row["side"] == side], firsts[side]) for side in SIDES]
    ordinary, block = totals
    return {
        "encode_s": encode_s,
        "encode_tokens_per_s": args.blocks * args.block_tokens / encode_s,
        "prefix_cache_hits": {side: prefix_hits(servers[side]) for side in SIDES},
        "rows": rows,
        "totals": totals,
        "ttft_ratio": ordinary["ttft_p50_ms"] / block["ttft_p50_ms"],
        "throughput_ratio": block["questions_per_s"] / ordinary["questions_per_s"],
        "ttft_ms": firsts,
    }


def _total(side: str, rows: list[dict[str, Any]], milliseconds: list[float]) -> dict[str, Any]:
    n, wall_s = sum(row["questions"] for row in rows), sum(row["wall_s"] for row in rows)
    return {"side": side, "questions": n, **first_tokens(milliseconds), "questions_per_s": n / wall_s}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2", help="a model with an adapter (default: %(default)s)")
    for flag, default, text in (
        ("--clients", 16, "questions at once"),
        ("--blocks", 200, "blocks in the store"),
        ("--block-tokens", 200, "tokens of a block"),
        ("--per-question", 8, "blocks of a question"),
        ("--answer-tokens", 16, "tokens of an answer"),
        ("--questions", 32, "questions of a round"),
        ("--rounds", 3, "rounds of each side"),
    ):
        parser.add_argument(flag, type=int, default=default, help=f"{text} (default: %(default)s)")
    parser.add_argument("--exponent", type=float, default=1.0, help="of Zipf's law (default: %(default)s)")
    parser.add_argument("--kv-space", default="2", help="GiB of pages of each server (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="write the result to this file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Start both servers, measure, print the table and, as the last line, JSON."""
    args = parse(argv)
    adapter = find_adapter(AUTO, args.model)
    if adapter is None:
        raise SystemExit(f"{args.model} has no adapter")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        checkpoint, store = folder / "merged", folder / "kv"
        merge(args.model, adapter, "block", checkpoint)
        flags = (
            "--dtype",
            "float32",
            "--enforce-eager",
            "--max-model-len",
            "4096",
            "--max-num-seqs",
            str(args.clients),
        )
        space = {"VLLM_CPU_KVCACHE_SPACE": args.kv_space}
        store.mkdir()
        servers = {
            "ordinary": stack.enter_context(serving(str(checkpoint), *flags, **space)),
            "block": stack.enter_context(
                serving(str(checkpoint), *flags, connector={"kv_dir": str(store), "memory_bytes": "2GB"}, **space)
            ),
        }
        block_format = read_format(checkpoint)
        clients = {
            side: Endless(url, block_format.sink_ids, block_format.prefix_visible) for side, url in servers.items()
        }
        measured = measure(args, servers, clients)
    result = {
        "benchmark": "serve",
        "commit": commit(),
        "machine": f"{len(os.sched_getaffinity(0))} CPU cores, shared with other work",
        "model": args.model,
        "settings": {name: str(value) if name == "json" else value for name, value in vars(args).items()},
        **measured,
    }
    print_table(measured["totals"])
    line = json.dumps(result)
    if args.json:
        args.json.write_text(line + "\n")
    print(line)


if __name__ == "__main__":
    main()
