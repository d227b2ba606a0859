"""Push the application to a Hugging Face Space: ``python integrations/space/push.py USER/NAME``.

Log in first (``hf auth login``). The Space is made if it is absent. It gets the files that git tracks here, with the
README of this folder.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

LEFT_OUT = ("tests/", "training/", "benchmarks/", "docs/", "examples/", "integrations/", ".github/", ".ci/")
"""Folders that the application does not need."""


def files_of_space() -> dict[str, Path]:
    """The Space's files by their path in it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    files = {name: ROOT / name for name in listed.splitlines() if not name.startswith(LEFT_OUT)}
    return {**files, "README.md": HERE / "README.md"}


def main(argv: Sequence[str] | None = None) -> None:
    """Make the Space if it is absent, and upload its files in one commit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("space", help="USER/NAME")
    parser.add_argument("--private", action="store_true", help="a new Space is private")
    args = parser.parse_args(argv)
    api = HfApi()
    api.create_repo(args.space, repo_type="space", space_sdk="gradio", exist_ok=True, private=args.private)
    operations = [CommitOperationAdd(name, path) for name, path in files_of_space().items()]
    api.create_commit(args.space, operations, commit_message="BlockRAG", repo_type="space")
    sys.stdout.write(f"https://huggingface.co/spaces/{args.space}\n")


if __name__ == "__main__":
    main()
