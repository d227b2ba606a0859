"""Compare segmenters on public sets, read in the formats in which their authors publish them.

A set is ``NAME=FORMAT:PATH``; a folder is searched recursively. Formats:

- ``sections``: files ``*.ref``, one sentence a line, sections between lines of equals signs (Choi; WikiSection), with
  their level and title if given (``========,2,History.``: WIKI-727K, Wiki-50).
- ``turns``: one file, a line ``call_id_N`` before each dialogue, then ``topic turn`` on each line (TADAM).
- ``markdown``: files ``*.md``; a section begins at each heading of the second degree or a finer one. Comments, which
  hold the original in some translations, are removed.
"""

import argparse
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from training.corpus import Boundary, Row
from training.evaluate.segmentation import evaluate, result_of
from training.headings import without_headings
from training.semanticseg.structure import find_headings

_SEPARATOR = re.compile(r"={8,}(?:,(?P<level>\d+),.*)?\s*\Z")
_HASHES = re.compile(r"#+")
_COMMENT = re.compile(r"<!--.*?-->\s*", re.DOTALL)
_DEEPEST = 3


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``public``."""
    parser.add_argument("--sets", nargs="+", required=True, help="NAME=FORMAT:PATH; see the module")
    parser.add_argument("--segmenters", default="neural,structural,fixed,similarity,texttiling,llamaindex,chonkie")
    parser.add_argument("--neural", type=Path, help="folder of the learned segmenter (default: the shipped one)")
    parser.add_argument("--limit", type=int, default=0, help="documents of each set, by their hash (default: all)")
    parser.add_argument("--max-chars", type=int, default=0, help="skip longer documents (default: no limit)")
    parser.add_argument("--device", default="cpu", help="device of encoders and the learned segmenter")


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Evaluate; ``rows`` hold one mean for each set, segmenter, level and ``at``."""
    rows = [row for each in args.sets for row in _chosen(read_set(each), args.limit, args.max_chars)]
    measured = evaluate(rows, args.segmenters.split(","), args.neural, args.device)
    about = {"sets": [each.partition(":")[0] for each in args.sets], "limit": args.limit, "max_chars": args.max_chars}
    return result_of(rows, measured, "stripped") | about | {"split": "test", "device": args.device}


def read_set(name: str) -> Iterator[Row]:
    """Documents of ``NAME=FORMAT:PATH`` with at least one inner boundary, without headings.

    Raises
    ------
    ValueError
        If the format is unknown, or the path holds no document of this format.
    """
    found = re.fullmatch(r"([^=]+)=(\w+):(.+)", name)
    if not found or found[2] not in FORMATS:
        raise ValueError(f"{name!r} is not NAME=FORMAT:PATH with a format of {', '.join(FORMATS)}.")
    known = {"dataset": found[1], "category": found[1], "source": found[1], "licence": "", "split": "test"}
    n = 0
    for path, text, boundaries, headings in FORMATS[found[2]](Path(found[3])):
        row = without_headings({"id": path, "text": text, "boundaries": boundaries, "headings": headings, **known})
        if len(row["boundaries"]) > 1:
            n += 1
            yield row
    if not n:
        raise ValueError(f"{found[3]} holds no document in the format {found[2]!r} with a section inside.")


Document = tuple[str, str, list[Boundary], list[list[int]]]
"""Id, text, boundaries and headings."""


def _sections(path: Path) -> Iterator[Document]:
    for file in _files(path, ".ref"):
        lines, boundaries, char, level = [], [{"char": 0, "level": 1}], 0, 0
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            separator = _SEPARATOR.match(line)
            if separator:
                level = min(int(separator["level"] or 1), _DEEPEST)
            elif line.strip():
                if level and char:
                    boundaries.append({"char": char, "level": level})
                lines.append(line.strip() + "\n")
                char, level = char + len(lines[-1]), 0
        yield str(file), "".join(lines), boundaries, []


def _turns(path: Path) -> Iterator[Document]:
    for block in re.split(r"^call_id_", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        number, *lines = block.splitlines()
        text, boundaries, before = "", [{"char": 0, "level": 1}], ""
        for line in filter(None, lines):
            topic, _, turn = line.partition(" ")
            if text and topic != before:
                boundaries.append({"char": len(text), "level": 1})
            text, before = text + turn.strip() + "\n", topic
        yield f"{path}#{number}", text, boundaries, []


def _markdown(path: Path) -> Iterator[Document]:
    for file in _files(path, ".md"):
        text = _COMMENT.sub("", file.read_text(encoding="utf-8"))
        headings = find_headings(text)
        levels = {0: 1}
        for start, end in headings:
            hashes = _HASHES.match(text, start, end)
            if start and hashes:
                levels[start] = max(1, min(len(hashes[0]) - 1, _DEEPEST))
        yield str(file), text, [{"char": char, "level": level} for char, level in sorted(levels.items())], headings


FORMATS: dict[str, Callable[[Path], Iterable[Document]]] = {
    "sections": _sections,
    "turns": _turns,
    "markdown": _markdown,
}


def _files(path: Path, suffix: str) -> list[Path]:
    return [path] if path.is_file() else sorted(path.rglob(f"*{suffix}"))


def _chosen(rows: Iterable[Row], n: int, max_chars: int) -> list[Row]:
    """Up to `n` rows, by the hash of their id's last part; all if `n` is 0."""
    fitting = [row for row in rows if not max_chars or len(row["text"]) <= max_chars]
    fitting.sort(key=lambda row: hashlib.sha256(f"{Path(row['id']).name}\0{row['text']}".encode()).digest())
    return fitting[:n] if n else fitting


def table(result: dict[str, Any]) -> str:
    """All sections of each set (level 3) as a Markdown table, with 95 % intervals."""
    heads = "| set | segmenter | given the number: F1 | Pk | WindowDiff | default: F1 | Pk | WindowDiff | documents |"
    rows = {(row["source"], row["segmenter"], row["at"]): row for row in result["rows"] if row["level"] == _DEEPEST}
    lines = [heads, "|---" * 9 + "|"]
    for source, name, at in rows:
        if at == "default":
            default, given = rows[source, name, at], rows.get((source, name, "gold count"))
            cells = [source, name, *_cells(given), *_cells(default), str(default["n_documents"])]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(row: dict[str, Any] | None) -> list[str]:
    names = ("f1", "pk", "windowdiff")
    return [f"{row[n]:.3f} ({row[n + '_low']:.3f} to {row[n + '_high']:.3f})" if row else "-" for n in names]
