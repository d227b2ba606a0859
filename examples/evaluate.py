"""Evaluate retrieval and answers with LlamaIndex's evaluators, in block and full mode on the same questions.

    python examples/evaluate.py nq.jsonl.zst --questions 20

Retrieval: `RetrieverEvaluator` (hit rate, MRR, precision, recall against the gold passages). Answers:
`SemanticSimilarityEvaluator` against the first reference answer, run by `BatchEvalRunner`; it compares embeddings, so
no paid model is needed. Any other evaluator takes the same responses. The last line is JSON.
"""

import argparse
import asyncio
import json
from pathlib import Path
from statistics import mean
from typing import Any

from llama_index.core import VectorStoreIndex
from llama_index.core.evaluation import BatchEvalRunner, RetrieverEvaluator, SemanticSimilarityEvaluator
from qa_data import Row, contains_answer, gold_ids, nodes_of, read_rows

from blockrag.events import Mode
from blockrag.llamaindex import BlockAttentionLLM, BlockRAGEmbedding, BlockSynthesizer

METRICS = ["hit_rate", "mrr", "precision", "recall"]


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="questions as JSON lines: see qa_data.py")
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--split", default="test")
    parser.add_argument("--nodes", type=int, default=200, help="passages in the collection")
    parser.add_argument("--top-k", type=int, default=8)
    parser.add_argument("--max-tokens", type=int, default=24)
    parser.add_argument("--model", default="smollm2")
    return parser.parse_args()


def evaluate_retrieval(index: VectorStoreIndex, rows: list[Row], k: int) -> dict[str, float]:
    """Metrics averaged over the questions."""
    evaluator = RetrieverEvaluator.from_metric_names(METRICS, retriever=index.as_retriever(similarity_top_k=k))
    results = [evaluator.evaluate(row["question"], expected_ids=gold_ids(row)).metric_vals_dict for row in rows]
    return {metric: mean(float(result[metric]) for result in results) for metric in METRICS}


def evaluate_answers(index: VectorStoreIndex, rows: list[Row], llm: BlockAttentionLLM, k: int) -> dict[str, float]:
    """Similarity to the reference, share of answers that contain it, and time to first token."""
    query_engine = index.as_query_engine(llm=llm, response_synthesizer=BlockSynthesizer(llm), similarity_top_k=k)
    runner = BatchEvalRunner(
        {"similarity": SemanticSimilarityEvaluator(embed_model=BlockRAGEmbedding.from_engine(llm.engine))}, workers=1
    )
    questions = [row["question"] for row in rows]
    responses: list[Any] = [query_engine.query(question) for question in questions]
    scores = asyncio.run(
        runner.aevaluate_responses(questions, responses=responses, reference=[row["answers"][0] for row in rows])
    )
    return {
        "similarity": mean(result.score or 0.0 for result in scores["similarity"]),
        "contains_answer": mean(
            contains_answer(str(r), row["answers"]) for r, row in zip(responses, rows, strict=True)
        ),
        "ttft_ms": mean(response.metadata["blockrag"]["ttft_ms"] for response in responses),
    }


def main() -> None:
    """Evaluate, and print JSON last."""
    args = arguments()
    rows = read_rows(args.data, args.split, args.questions)
    llm = BlockAttentionLLM.from_pretrained(args.model, max_tokens=args.max_tokens)
    index = VectorStoreIndex(nodes_of(rows, args.nodes), embed_model=BlockRAGEmbedding.from_engine(llm.engine))
    result: dict[str, Any] = {"questions": len(rows), "retrieval": evaluate_retrieval(index, rows, args.top_k)}
    modes: tuple[Mode, ...] = ("block", "full")
    for mode in modes:
        asked = BlockAttentionLLM(llm.engine, mode=mode, max_tokens=args.max_tokens)
        result[mode] = evaluate_answers(index, rows, asked, args.top_k)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
