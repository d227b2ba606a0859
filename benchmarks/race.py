"""One question in both modes, as a moving picture: ``python -m benchmarks.race --json FILE --svg FILE``.

Both modes read the same blocks, retrieved from the sample of the application and pages of the documentation. A question
before each warms up and is not measured.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import torch

from benchmarks.common import commit
from benchmarks.machine import measure_machine
from blockrag import BlockRAG

ROOT = Path(__file__).parent.parent
DOCUMENTS = ("ui/sample.md", "docs/concepts.md", "docs/faq.md", "docs/start.md")
QUESTION = "When do the puffins arrive on Saltmere, and when do they leave?"
SPEED_UP = 4
"""How many times faster than measured the picture moves."""

COLOURS = {"block": "#3b5bdb", "full": "#8a8f98"}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, or draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--k", type=int, default=20, help="blocks to answer from (default: %(default)s)")
    parser.add_argument("--json", type=Path, required=True, help="write the result here; if it exists, only draw it")
    parser.add_argument("--svg", type=Path, help="draw the picture here")
    args = parser.parse_args(argv)
    if not args.json.exists():
        args.json.write_text(json.dumps(measure(args.model, args.k)) + "\n")
    result = json.loads(args.json.read_text())
    if args.svg:
        args.svg.write_text(draw(result), encoding="utf-8")
    print(json.dumps(result))
    return 0


def measure(model: str, k: int) -> dict[str, Any]:
    """Index `DOCUMENTS` and ask `QUESTION` in both modes, over the `k` best blocks."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = measure_machine(device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        rag = BlockRAG.from_pretrained(model, directory=folder)
        rag.index([ROOT / name for name in DOCUMENTS])
        for mode in ("block", "full"):
            rag.ask("What is Saltmere?", mode=mode, k=2, max_new_tokens=4)
            answer = rag.ask(QUESTION, mode=mode, k=k, max_new_tokens=48)
            context = answer.report.n_context_tokens
            rows.append({"mode": mode, "ttft_ms": answer.report.ttft_ms, "context": context, "answer": answer.text})
        rag.close()
    return {
        "machine": machine.to_dict(),
        "model": model,
        "commit": commit(),
        "question": QUESTION,
        "rows": rows,
        "ratio": rows[1]["ttft_ms"] / rows[0]["ttft_ms"],
    }


def draw(result: dict[str, Any]) -> str:
    """An SVG that plays both answers, over and over, `SPEED_UP` times as fast as measured."""
    rows = {row["mode"]: row for row in result["rows"]}
    waits = {mode: row["ttft_ms"] / 1e3 / SPEED_UP for mode, row in rows.items()}
    lasts = max(waits.values()) + 4
    lanes = "".join(_lane(rows[mode], waits[mode], lasts, 92 + 104 * i) for i, mode in enumerate(("block", "full")))
    where = (
        f"{result['machine']['cores']} CPU cores"
        if "CPU" in result["machine"]["device"]
        else result["machine"]["device"]
    )
    ratio = f"{result['ratio']:.0f} times sooner"
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 880 300" width="880" height="300" role="img" \
aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="15">
<title id="t">The same answer, {ratio}</title>
<desc id="d">{escape(result["question"])} Block mode begins to answer after {rows["block"]["ttft_ms"] / 1e3:.1f} s, \
full mode after {rows["full"]["ttft_ms"] / 1e3:.1f} s.</desc>
<rect width="880" height="300" rx="8" fill="#ffffff"/>
<text x="24" y="36" font-size="18" font-weight="bold" fill="#1f2937">{escape(result["question"])}</text>
<text x="24" y="62" fill="#4b5563">{escape(result["model"])} over {rows["full"]["context"]:,} tokens of documents, \
on {escape(where)}</text>
{lanes}<text x="24" y="284" font-size="13" fill="#4b5563">The first token comes {ratio}. \
Shown {SPEED_UP} times as fast as measured.</text>
</svg>
"""


def _lane(row: dict[str, Any], wait: float, lasts: float, top: int) -> str:
    name = {"block": "Block mode: only the question is computed", "full": "Full mode: everything is read again"}
    seconds = f"first token after {row['ttft_ms'] / 1e3:.1f} s"
    width = 832 * wait / (lasts - 4)
    at = wait / lasts
    grow = f'<animate attributeName="width" values="0;{width:.1f};{width:.1f}" keyTimes="0;{at:.4f};1"'
    show = f'<animate attributeName="opacity" values="0;0;1;1" keyTimes="0;{at:.4f};{min(at + 0.01, 0.999):.4f};1"'
    loop = f'dur="{lasts:.2f}s" repeatCount="indefinite"/>'
    return f"""<text x="24" y="{top + 14}" font-weight="bold" fill="{COLOURS[row["mode"]]}">{name[row["mode"]]}</text>
<rect x="24" y="{top + 24}" width="832" height="10" rx="5" fill="#e5e7eb"/>
<rect x="24" y="{top + 24}" width="{width:.1f}" height="10" rx="5" fill="{COLOURS[row["mode"]]}">{grow} {loop}</rect>
<g>{show} {loop}<text x="24" y="{top + 56}" fill="#1f2937">{escape(row["answer"].strip())}</text>
<text x="856" y="{top + 14}" text-anchor="end" fill="#4b5563">{seconds}</text></g>
"""


if __name__ == "__main__":
    raise SystemExit(main())
