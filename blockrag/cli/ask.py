"""``ask``: answer a question from an index in block mode, full mode, or both."""

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, Any

from blockrag.cli import options
from blockrag.events import Answer, Mode, Piece, Report, Source

if TYPE_CHECKING:
    from blockrag.generate import Sampling
    from blockrag.pipeline import Pipeline
    from blockrag.retrieval import Retrieval

HELP = "Answer a question from the documents of an index."
EPILOG = "Example: python -m blockrag ask 'Who wrote it?' --store S --mode compare"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("question")
    options.add_store_options(parser)
    parser.add_argument(
        "--mode",
        choices=("block", "full", "compare"),
        default="block",
        help="block: cached block KV; full: ordinary attention over the same blocks; compare: both (default: block)",
    )
    parser.add_argument(
        "-k", "--k", type=options.positive, default=8, help="number of blocks to retrieve (default: %(default)s)"
    )
    parser.add_argument(
        "--max-new-tokens",
        type=options.positive,
        default=128,
        help="maximum length of the answer in tokens (default: %(default)s)",
    )
    _add_retrieval_options(parser)
    _add_sampling_options(parser)


def _add_retrieval_options(parser: argparse.ArgumentParser) -> None:
    """``--by --neighbours --document``."""
    group = parser.add_argument_group("search")
    group.add_argument(
        "--by",
        choices=("hybrid", "dense", "lexical"),
        help="hybrid: by vectors and words; dense: by vectors; lexical: by words (default: hybrid)",
    )
    neighbours = "blocks before and behind each found one to read too (default: 0)"
    group.add_argument("--neighbours", type=int, default=0, metavar="N", help=neighbours)
    only = "search in this document only, by name or source; may be given several times"
    group.add_argument("--document", action="append", default=[], metavar="NAME", help=only)


def _retrieval(args: argparse.Namespace) -> "Retrieval":
    from blockrag.retrieval import DEFAULT_BY, Retrieval

    return Retrieval(by=args.by or DEFAULT_BY, neighbours=args.neighbours, documents=args.document)


def _add_sampling_options(parser: argparse.ArgumentParser) -> None:
    """``--temperature --top-p --seed --stop --repetition-penalty``."""
    group = parser.add_argument_group("choice of tokens (default: the most likely one)")
    group.add_argument("--temperature", type=float, default=0.0, help="above 0, tokens are drawn (default: 0)")
    group.add_argument("--top-p", type=float, default=1.0, help="share of the probability drawn from (default: 1)")
    group.add_argument("--seed", type=int, help="makes draws repeatable")
    group.add_argument("--stop", action="append", default=[], help="end before this text; may be given several times")
    group.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1, repeats are rarer (default: 1)")


def _sampling(args: argparse.Namespace) -> "Sampling":
    from blockrag.generate import Sampling

    return Sampling(args.temperature, args.top_p, args.seed, tuple(args.stop), args.repetition_penalty)


def run(args: argparse.Namespace) -> int:
    """Stream the answer, then print its sources and cost."""
    sampling, retrieval = _sampling(args), _retrieval(args)
    pipeline = options.open_store(args)
    modes: tuple[Mode, ...] = ("block", "full") if args.mode == "compare" else (args.mode,)
    answers = [_ask(pipeline, args, mode, sampling, retrieval) for mode in modes]
    if args.json:
        options.print_json(_result(answers))
    elif args.mode == "compare":
        block, full = (answer.report for answer in answers)
        print(f"\nFirst token {full.ttft_ms / block.ttft_ms:.1f} times sooner in block mode.")
    return 0


def _ask(
    pipeline: "Pipeline", args: argparse.Namespace, mode: Mode, sampling: "Sampling", retrieval: "Retrieval"
) -> Answer:
    out = sys.stderr if args.json else sys.stdout
    how: dict[str, Any] = {"sampling": sampling, "retrieval": retrieval}
    for event in pipeline.ask(args.question, mode, args.k, args.max_new_tokens, **how):
        if isinstance(event, Piece):
            print(event.text, end="", file=out, flush=True)
        elif isinstance(event, Answer):
            print(f"\n\n{_summary(event)}\n", file=out)
            return event
    raise AssertionError("the stream ended without an answer")


def _summary(answer: Answer) -> str:
    lines = [_source_line(source) for source in answer.sources]
    choice = [f"Block KV: {answer.report.kv_choice}."] if answer.report.kv_again else []
    return "\n".join([*lines, _cost_line(answer.report), *choice, *answer.report.notes])


def _source_line(source: Source) -> str:
    page = f", page {source.page}" if source.page else ""
    start = " ".join(source.text.split())[:70]
    return f"[{source.number}] {source.document}{page}, characters {source.start}-{source.end}: {start}"


def _cost_line(report: Report) -> str:
    return (
        f"{report.mode} mode: first token after {report.ttft_ms:.0f} ms (retrieval {report.retrieval_ms:.0f}, "
        f"KV load {report.kv_load_ms:.0f}, encode {report.encode_ms:.0f}, assembly {report.assemble_ms:.0f}, "
        f"prefill {report.prefill_ms:.0f}), then {report.tokens_per_s:.1f} tokens/s; "
        f"{report.n_tokens_saved} of {report.n_context_tokens} context tokens reused from cache."
    )


def _result(answers: list[Answer]) -> dict[str, Any]:
    first = answers[0]
    result = {"question": first.question, **_answer(first), "sources": [_source(s) for s in first.sources]}
    if first.left_out:
        result["left_out"] = [_source(s) for s in first.left_out]
    if len(answers) == 2:
        result |= {answer.report.mode: _answer(answer) for answer in answers}
        result["ttft_ratio"] = answers[1].report.ttft_ms / first.report.ttft_ms
    return result


def _answer(answer: Answer) -> dict[str, Any]:
    return {
        "answer": answer.text,
        "stopped": answer.stopped,
        "citations": [dataclasses.asdict(citation) for citation in answer.citations],
        "report": answer.report.to_dict(),
    }


def _source(source: Source) -> dict[str, Any]:
    return dataclasses.asdict(source)
