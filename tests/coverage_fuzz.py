"""Coverage-guided fuzzing of every reader, of archives and of KV files, with Atheris (``pip install atheris``, Linux).

``python -m tests.coverage_fuzz --minutes 10`` shares the time between the targets, prints how much each tried, and ends
with 1 if one failed. What a target learned stays in the folder of ``--corpus`` for the next run. What failed comes to
``tests/corpus``, which `test_documents_fuzz.test_what_was_found` tries ever after.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from tests import fuzzing

FOUND = Path(__file__).parent / "corpus"
MAX_BYTES = 1 << 14
CONTAINERS = (".docx", ".pptx", ".xlsx", ".epub", ".odt", ".ods", ".odp")
"""Files of zipped members: one of them is altered, since an altered container only meets its checksums."""


def parts_of(suffix: str) -> list[tuple[dict[str, bytes], str]]:
    """The members of each seed, and the name of the one to alter."""
    found = (fuzzing.unzipped(data) for data in fuzzing.seeds(suffix))
    return [(members, name) for members in found for name in sorted(members) if len(members[name]) < MAX_BYTES]


def seeds_of(target: str) -> list[bytes]:
    """What a target begins with."""
    if target in CONTAINERS:
        return [bytes([n]) + members[name] for n, (members, name) in enumerate(parts_of(target)[:256])]
    if target == "archive":
        from tests.fuzz_checks import LISTED, archive  # noqa: PLC0415  (loads models' code)

        return [archive(json.dumps(LISTED).encode())]
    if target == "kv":
        from blockrag.kv.writer import kv_to_bytes  # noqa: PLC0415
        from tests.fuzz_checks import KV  # noqa: PLC0415

        return [kv_to_bytes(KV, "identity", "key", "exact")]
    return [data for data in fuzzing.seeds(target) if len(data) < MAX_BYTES] or [b"some text\n"]


def target_of(target: str) -> Callable[[bytes], None]:
    """Return what takes any bytes, and raises if they are neither read nor refused."""
    if target == "archive":
        from tests.fuzz_checks import is_answered  # noqa: PLC0415

        return is_answered
    if target == "kv":
        from tests.fuzz_checks import is_refused_or_what_it_was  # noqa: PLC0415

        return is_refused_or_what_it_was
    parts = parts_of(target)[:256] if target in CONTAINERS else []

    def read(data: bytes) -> None:
        if parts:
            members, name = parts[data[0] % len(parts) if data else 0]
            data = fuzzing.zipped({**members, name: data[1:]})
        if wrong := fuzzing.problem(f"f{target}", data):
            raise AssertionError(wrong)

    return read


TARGETS = (*{kind: suffix for suffix, kind in fuzzing.SUFFIXES.items() if suffix}.values(), "archive", "kv")
"""A suffix of each type, and what is read besides documents."""


def fuzz(target: str, seconds: int, corpus: Path) -> None:
    """Fuzz one target in this process, until it fails or the time is up."""
    atheris = import_module("atheris")  # Linux only

    with atheris.instrument_imports(include=["blockrag.documents", "blockrag.kv.reader", "storage.archive_reader"]):
        call = target_of(target)
        call(seeds_of(target)[0])
    corpus.mkdir(parents=True, exist_ok=True)
    for n, data in enumerate(seeds_of(target)):
        (corpus / f"seed-{n}").write_bytes(data)
    FOUND.mkdir(exist_ok=True)
    options = f"-max_total_time={seconds} -max_len={MAX_BYTES} -timeout=30 -rss_limit_mb=4096 -print_final_stats=1"
    kept = f"-artifact_prefix={FOUND}/{target.strip('.')}-"
    atheris.Setup([sys.argv[0], *options.split(), kept, str(corpus)], call)
    atheris.Fuzz()


def main(argv: Sequence[str] | None = None) -> int:
    """Fuzz the targets one after another, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together (default: %(default)s)")
    parser.add_argument("--corpus", type=Path, default=Path(".fuzz"), help="what was learned (default: %(default)s)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"by default all: {' '.join(TARGETS)}")
    args = parser.parse_args(argv)
    targets, failed = args.targets or TARGETS, []
    seconds = max(1, round(60 * args.minutes / len(targets)))
    for target in targets:
        code = f"from tests.coverage_fuzz import *; fuzz({target!r}, {seconds}, Path({str(args.corpus / target)!r}))"
        alone = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, errors="replace", env=alone)
        tried = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
        sys.stdout.write(f"{target}: {tried[1] if tried else 'no'} inputs{', FAILED' if done.returncode else ''}\n")
        sys.stdout.flush()
        if done.returncode:
            failed.append(target)
            sys.stdout.write(done.stderr[-1500:] + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
