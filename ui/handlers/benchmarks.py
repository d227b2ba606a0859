"""Benchmarks: the measured tables that come with the project, and a measurement of this machine."""

import json
import platform
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from blockrag.answering import Request, answer
from blockrag.engine import Engine
from blockrag.events import Answer, Mode, Source
from blockrag.stopwatch import Stopwatch
from ui import strings
from ui.streaming import stream_progress

RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"
LENGTHS = (256, 512, 1024, 2048)
BLOCK_TOKENS = 256
QUESTION = "Which of these words comes first?"


def tables() -> list[dict[str, Any]]:
    """Every measured table: its title, machine and rows of cells; plots by the same name are beside it."""
    found = []
    for path in sorted(RESULTS.glob("ttft-*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        rows = [
            [f"{row['context']:,}", _ms(row["full_ms"]), _ms(row["block_ms"]), f"{row['ratio']:.1f}×"]
            for row in data["rows"]
        ]
        machine = data.get("machine", {})
        name = machine.get("gpu") or machine.get("cpu") or machine.get("device") or ""
        found.append(
            {"title": str(data.get("model", path.stem)), "machine": str(name), "rows": rows, "head": strings.TTFT_HEAD}
        )
    return found


def plots() -> list[Path]:
    """The project's plots."""
    return sorted(RESULTS.glob("*.png"))


def measure(engine: Engine) -> Iterator[dict[str, Any]]:
    """First tokens on this machine over more and more cached blocks, in both modes; yields the table as it grows."""
    rows: list[list[str]] = []
    longest = engine.model.max_tokens - 128
    table: dict[str, Any] = {"title": strings.THIS_MACHINE, "machine": platform.processor() or platform.machine()}
    table |= {"rows": rows, "head": strings.TTFT_HEAD}
    yield {"tables": [table], "busy": True}
    texts = _texts(engine, min(max(LENGTHS), longest) // BLOCK_TOKENS)
    with closing(stream_progress(partial(engine.warm, texts))) as steps:
        for _ in steps:
            yield {"tables": [table], "busy": True}
    for length in LENGTHS:
        if length > longest:
            break
        block = _first_token(engine, texts[: length // BLOCK_TOKENS], "block")
        full = _first_token(engine, texts[: length // BLOCK_TOKENS], "full")
        rows.append([f"{length:,}", _ms(full), _ms(block), f"{full / block:.1f}×"])
        yield {"tables": [table], "busy": True}
    for text in texts:
        engine.kv.delete(engine.kv_key(text))
    yield {"tables": [table], "busy": False}


def _texts(engine: Engine, n_blocks: int) -> list[str]:
    """Blocks of so many tokens, each another."""
    texts = []
    for block in range(n_blocks):
        words, counter = [f"Block {block}."], engine.token_counter
        while counter.count(" ".join(words)) < BLOCK_TOKENS:
            words += [f"word{block}-{len(words)}" for _ in range(8)]
        texts.append(" ".join(words))
    return texts


def _first_token(engine: Engine, texts: list[str], mode: Mode) -> float:
    """Milliseconds to the first token over these blocks, the better of two runs."""
    times = []
    for _ in range(2):
        request = Request(QUESTION, mode, 1, Stopwatch(engine.model.device))
        counter = engine.token_counter
        request.sources = tuple(
            Source(n, "", "", 0, len(text), text, 0.0, counter.count(text)) for n, text in enumerate(texts, start=1)
        )
        for event in answer(engine, request):
            if isinstance(event, Answer):
                times.append(event.report.ttft_ms)
    return min(times)


def _ms(ms: float) -> str:
    return f"{ms:,.1f}" if ms < 100 else f"{ms:,.0f}"
