"""The project's measured tables and plots, and a measurement of this machine."""

import json
import platform
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

from blockrag.answering import Request, answer
from blockrag.engine import Engine
from blockrag.events import Answer, Mode, Source
from blockrag.stopwatch import Stopwatch
from ui import strings
from ui.components.payloads import Table, TablesPayload
from ui.jobs import stream_progress

RESULTS = Path(__file__).parent.parent.parent / "benchmarks" / "results"
LENGTHS = (256, 512, 1024, 2048)
BLOCK_TOKENS = 256
QUESTION = "Which of these words comes first?"


def tables() -> list[Table]:
    """Return every measured table."""
    found: list[Table] = []
    for path in sorted(RESULTS.glob("ttft-*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        machine = data.get("machine", {})
        name = machine.get("gpu") or machine.get("cpu") or machine.get("device") or ""
        rows = [_row(row["context"], row["full_ms"], row["block_ms"]) for row in data["rows"]]
        found.append(
            {"title": str(data.get("model", path.stem)), "machine": str(name), "head": strings.TTFT_HEAD, "rows": rows}
        )
    return found


def plots() -> list[Path]:
    """Return the project's plots."""
    return sorted(RESULTS.glob("*.png"))


def measure(engine: Engine) -> Iterator[TablesPayload]:
    """Measure time to first token on this machine, in both modes and over more and more cached blocks. Yield the table
    as it grows."""
    rows: list[list[str]] = []
    machine = platform.processor() or platform.machine()
    table: Table = {"title": strings.THIS_MACHINE, "machine": machine, "head": strings.TTFT_HEAD, "rows": rows}
    longest = engine.model.max_tokens - 128
    yield {"tables": [table], "busy": True}
    texts = _texts(engine, min(max(LENGTHS), longest) // BLOCK_TOKENS)
    with closing(stream_progress(partial(engine.warm, texts))) as steps:
        for _ in steps:
            yield {"tables": [table], "busy": True}
    for length in LENGTHS:
        if length > longest:
            break
        block_ms = _ttft_ms(engine, texts[: length // BLOCK_TOKENS], "block")
        full_ms = _ttft_ms(engine, texts[: length // BLOCK_TOKENS], "full")
        rows.append(_row(length, full_ms, block_ms))
        yield {"tables": [table], "busy": True}
    for text in texts:
        engine.kv.delete(engine.kv_key(text))
    yield {"tables": [table], "busy": False}


def _texts(engine: Engine, n_blocks: int) -> list[str]:
    """Return distinct texts of about `BLOCK_TOKENS` tokens."""
    texts = []
    for block in range(n_blocks):
        words, counter = [f"Block {block}."], engine.token_counter
        while counter.count(" ".join(words)) < BLOCK_TOKENS:
            words += [f"word{block}-{len(words)}" for _ in range(8)]
        texts.append(" ".join(words))
    return texts


def _ttft_ms(engine: Engine, texts: list[str], mode: Mode) -> float:
    """Return the time to first token over these blocks, the better of two runs."""
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


def _row(n_tokens: int, full_ms: float, block_ms: float) -> list[str]:
    return [f"{n_tokens:,}", _format(full_ms), _format(block_ms), f"{full_ms / block_ms:.1f}×"]


def _format(ms: float) -> str:
    return f"{ms:,.1f}" if ms < 100 else f"{ms:,.0f}"
