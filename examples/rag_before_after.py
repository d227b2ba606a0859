"""Compare a LlamaIndex program before and after adding block KV, on the same questions.

Before: the stock query engine and synthesizer over a flat prompt. After: `BlockSynthesizer`. Retriever, index, model
and weights are the same. Time is measured from the call of `query` to the first text, including retrieval.
`BlockSynthesizer` has its own prompt; its answers in full mode, `full`, separate the effect of the prompt from that of
block KV.

    python examples/rag_before_after.py nq.jsonl.zst --questions 50 --tokens 4000

The last line is JSON. Answers count as equally good (`judged_alike`) if the 95 % interval of the difference in
containing the reference answer (after minus the other; paired, bootstrap over questions) includes zero.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.base.response.schema import StreamingResponse
from llama_index.core.query_engine import BaseQueryEngine
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from qa_data import Row, contains_answer, mean_interval, nodes_of, read_rows, token_f1

from blockrag.llamaindex import BlockAttentionLLM, BlockKVVectorStore, BlockRAGEmbedding, BlockSynthesizer

GIB = 1 << 30


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="questions as JSON lines: see qa_data.py")
    parser.add_argument("--questions", type=int, default=50)
    parser.add_argument("--split", default="test")
    parser.add_argument("--nodes", type=int, default=300, help="passages in the collection")
    parser.add_argument("--tokens", type=int, default=4000, help="approximate tokens of nodes per question")
    parser.add_argument("--max-tokens", type=int, default=24, help="longest answer")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--kv-dir", type=Path, help="folder for block KV (default: a temporary one)")
    return parser.parse_args()


def ask(query_engine: BaseQueryEngine, question: str) -> dict[str, Any]:
    """Ask one question: the answer, its nodes, and milliseconds to the first text."""
    start = time.perf_counter()
    response = query_engine.query(question)
    assert isinstance(response, StreamingResponse)
    pieces: list[str] = []
    ttft = None
    for piece in response.response_gen:
        if piece and ttft is None:
            ttft = 1000 * (time.perf_counter() - start)
        pieces.append(piece)
    if ttft is None:  # an empty answer, complete by now
        ttft = 1000 * (time.perf_counter() - start)
    report = (response.metadata or {}).get("blockrag")
    return {
        "answer": "".join(pieces).strip(),
        "nodes": [found.node_id for found in response.source_nodes],
        "ttft_ms": ttft,
        "report": report,
    }


def run(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run all programs on all questions."""
    rows = read_rows(args.data, args.split, args.questions)
    nodes = nodes_of(rows, args.nodes)
    llm = BlockAttentionLLM.from_pretrained(args.model, kv_dir=folder, max_tokens=args.max_tokens, memory_bytes=6 * GIB)
    n_tokens = [llm.engine.token_counter.count(node.text) for node in nodes]
    k = max(1, round(args.tokens / statistics.mean(n_tokens)))
    start = time.perf_counter()
    programs = build(nodes, llm, k)
    print(f"{len(nodes)} nodes, {sum(n_tokens)} tokens, indexed in {time.perf_counter() - start:.0f} s; {k} a question")
    for query_engine in programs.values():  # warm up: the first question pays for one-time setup
        ask(query_engine, rows[0]["question"])
    asked = []
    for number, row in enumerate(rows, start=1):
        asked.append({name: ask(query_engine, row["question"]) for name, query_engine in programs.items()})
        print(f"{number:3} {row['question']}")
        for name, said in asked[-1].items():
            print(f"      {name:6} {said['ttft_ms']:7.0f} ms  {said['answer'][:90]!r}")
    return {**summary(rows, asked), "model": args.model, "n_nodes": len(nodes), "k": k}


def build(nodes: list[TextNode], llm: BlockAttentionLLM, k: int) -> dict[str, BaseQueryEngine]:
    """The program before, after, and after in full mode, over one index."""
    index = VectorStoreIndex(
        nodes,
        storage_context=StorageContext.from_defaults(vector_store=BlockKVVectorStore(SimpleVectorStore(), llm)),
        embed_model=BlockRAGEmbedding.from_engine(llm.engine),
    )
    programs = {"before": index.as_query_engine(llm=llm, streaming=True, similarity_top_k=k)}
    full = BlockAttentionLLM(llm.engine, max_tokens=llm.max_tokens, mode="full")
    for name, each in (("after", llm), ("full", full)):
        synthesizer = BlockSynthesizer(each, streaming=True)
        programs[name] = index.as_query_engine(llm=each, response_synthesizer=synthesizer, similarity_top_k=k)
    return programs


def summary(rows: list[Row], asked: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The result; `asked` has each question's answers by program."""
    result: dict[str, Any] = {"questions": len(rows)}
    for name in asked[0]:
        result[f"{name}_ttft_ms"] = statistics.median(each[name]["ttft_ms"] for each in asked)
        for measure in (contains_answer, token_f1):
            scores = [measure(each[name]["answer"], row["answers"]) for row, each in zip(rows, asked, strict=True)]
            result[f"{name}_{measure.__name__}"] = statistics.mean(scores)
    afters = [each["after"] for each in asked]
    return {
        **result,
        "ttft_ratio": statistics.median(each["before"]["ttft_ms"] / each["after"]["ttft_ms"] for each in asked),
        "context_tokens": round(statistics.mean(after["report"]["n_context_tokens"] for after in afters)),
        "kv_misses": sum(after["report"]["kv_misses"] for after in afters),
        "same_nodes": all(each["before"]["nodes"] == each["after"]["nodes"] for each in asked),
        "difference": {name: difference(rows, asked, name) for name in ("before", "full")},
    }


def difference(rows: list[Row], asked: list[dict[str, dict[str, Any]]], other: str) -> dict[str, Any]:
    """How much more often the answers after contain the reference than those of the other program."""
    mean, low, high = mean_interval(
        [
            contains_answer(each["after"]["answer"], row["answers"])
            - contains_answer(each[other]["answer"], row["answers"])
            for row, each in zip(rows, asked, strict=True)
        ]
    )
    return {"mean": mean, "low": low, "high": high, "judged_alike": low <= 0 <= high}


def main() -> None:
    """Run, and print JSON last."""
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="before-after-") as folder:
        result = run(args, args.kv_dir or Path(folder))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
