"""Annotate with a language model: it receives numbered candidates and returns the chosen ones with levels.

Answers are validated. After an unusable answer, the model is asked again and told what was wrong. Valid answers are
cached on disk.
"""

import hashlib
import json
import os
import re
from itertools import pairwise
from pathlib import Path
from string import Template

from blockrag.models.store import write_aside
from blockrag.segment import find_candidates
from training.corpus import Row
from training.semanticseg.chat import Chat, Message, make_chat
from training.semanticseg.config import LanguageModel
from training.semanticseg.structure import find_headings

CACHE_VARIABLE = "SEMANTICSEG_CACHE"
"""Environment variable for the folder of cached answers (default: ``~/.cache/semanticseg``)."""

_PROMPTS = Path(__file__).parent / "prompts"
_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


class UnusableAnswerError(ValueError):
    """The model's answer does not have the requested form."""


def annotate(row: Row, settings: LanguageModel, chat: Chat | None = None) -> Row:
    """`row` with the boundaries that the model chose among the candidates.

    Raises
    ------
    UnusableAnswerError
        If no attempt gave a usable answer.
    """
    chat = chat or make_chat(settings)
    text, candidates = row["text"], find_candidates(row["text"]).tolist()
    boundaries = [{"char": 0, "level": 1}]
    for first in range(0, len(candidates), settings.candidates):
        chosen = candidates[first : first + settings.candidates]
        start = candidates[first - 1] if first else 0
        end = candidates[first + len(chosen)] if first + len(chosen) < len(candidates) else len(text)
        levels = _ask(_numbered(text, start, chosen, end), len(chosen), settings, chat)
        boundaries += [{"char": chosen[number - 1], "level": level} for number, level in sorted(levels.items())]
    return {**row, "boundaries": boundaries, "headings": row["headings"] or find_headings(text)}


def _numbered(text: str, start: int, candidates: list[int], end: int) -> str:
    """The text from `start` to `end` with ``<1>``, ``<2>``, … before the candidates."""
    edges = [start, *candidates, end]
    pieces = [text[a:b] for a, b in pairwise(edges)]
    return pieces[0] + "".join(f"<{i}>{piece}" for i, piece in enumerate(pieces[1:], 1))


def _ask(numbered: str, n: int, settings: LanguageModel, chat: Chat) -> dict[int, int]:
    """Level of each chosen mark."""
    prompt = Template((_PROMPTS / settings.prompt).read_text(encoding="utf-8")).substitute(text=numbered)
    kept = _cache(settings, prompt)
    if kept.exists():
        return parse(kept.read_text(encoding="utf-8"), n)
    messages: list[Message] = [{"role": "user", "content": prompt}]
    for attempt in range(settings.attempts):
        answer = chat(messages)
        try:
            levels = parse(answer, n)
        except UnusableAnswerError as error:
            if attempt + 1 == settings.attempts:
                raise
            correction = f"{error} Answer again with the JSON object alone."
            messages += [{"role": "assistant", "content": answer}, {"role": "user", "content": correction}]
        else:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_aside(kept, answer)
            return levels
    raise AssertionError("at least one attempt is made")


def parse(answer: str, n: int) -> dict[int, int]:
    """Parse an answer: mark -> level.

    Raises
    ------
    UnusableAnswerError
        If it is not the expected JSON, or has a mark above `n` or a level other than 1, 2, 3.
    """
    found = _OBJECT.search(answer)
    if not found:
        raise UnusableAnswerError("The answer contains no JSON object.")
    try:
        chosen = {int(each["mark"]): int(each["level"]) for each in json.loads(found[0])["boundaries"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UnusableAnswerError(f"The answer does not have the requested form ({error!r}).") from error
    wrong = sorted(mark for mark, level in chosen.items() if not 1 <= mark <= n or level not in (1, 2, 3))
    if wrong:
        raise UnusableAnswerError(f"Marks are 1 to {n}, levels 1 to 3; wrong at marks {wrong[:5]}.")
    return chosen


def _cache(settings: LanguageModel, prompt: str) -> Path:
    folder = Path(os.environ.get(CACHE_VARIABLE, "~/.cache/semanticseg")).expanduser()
    key = "\0".join((settings.endpoint, settings.model, prompt))
    return folder / f"{hashlib.sha256(key.encode('utf-8', 'replace')).hexdigest()}.txt"
