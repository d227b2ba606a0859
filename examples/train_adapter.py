"""Train your own adapter: examples from your questions, teacher, student, an answer, a checkpoint for other engines.

PYTHONPATH=. python examples/train_adapter.py nq_open_20doc.jsonl.zst --out my-adapter

A few steps on a CPU show that it works. `training/recipes/distill.sh` has the settings for good answers, on a GPU.
"""

import argparse
import json
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from blockrag import BlockRAG, Document
from blockrag.models.adapter import load_adapter
from blockrag.models.merge import merge
from training.distill.__main__ import main as distill
from training.qa import read_questions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="questions with passages, in the schema of training/qa.py")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--split", default="train")
    parser.add_argument("--examples", type=int, default=16, help="number of examples to build")
    parser.add_argument("--steps", type=int, default=4, help="training steps of each stage")
    parser.add_argument("--max-tokens", type=int, default=600, help="longest example")
    args = parser.parse_args()
    train(args)
    answer = ask(args)
    print(json.dumps({"answer": answer, "adapter": str(args.out / "student"), "merged": try_merged(args)}))


def train(args: argparse.Namespace) -> None:
    """Run the three commands that `training/README.md` describes."""
    out, model = args.out, ["--model", args.model]
    made = ["--out", str(out / "examples.safetensors"), "--n", str(args.examples), "--max-tokens", str(args.max_tokens)]
    distill(["prepare", *model, "--qa", args.data, "--split", args.split, *made, "--workers", "1"])
    run = [*model, "--data", str(out / "examples.safetensors"), "--steps", str(args.steps), "--examples", "2"]
    distill(["teacher", *run, "--lr", "1e-3", "--out", str(out / "teacher")])
    distill(["student", *run, "--teacher", str(out / "teacher"), "--out", str(out / "student")])


def ask(args: argparse.Namespace) -> str:
    """Answer the first question with its passages as documents."""
    row = next(iter(read_questions([args.data], args.split)))
    rag = BlockRAG.from_pretrained(args.model, directory=args.out / "index", adapter=str(args.out / "student"))
    rag.index(*(Document(f"{i}.txt", "text/plain", each["text"]) for i, each in enumerate(row["documents"])))
    return rag.ask(row["question"], max_new_tokens=16).text


def try_merged(args: argparse.Namespace) -> str:
    """Write block mode's weights as an ordinary checkpoint, and load it as any engine would."""
    merged = args.out / "merged"
    merge(args.model, load_adapter(args.out / "student"), "block", merged)
    network, tokenizer = AutoModelForCausalLM.from_pretrained(merged), AutoTokenizer.from_pretrained(merged)
    network.generate(**tokenizer("Block attention", return_tensors="pt"), max_new_tokens=4, do_sample=False)
    return str(merged)


if __name__ == "__main__":
    main()
