"""A conversation as token ids: alone, or around the blocks of its documents. Knows the template, not the network.

What was said is never parsed for control tokens (rule 9), whoever said it: each text is put where a mark stood in the
rendered template, tokenised alone.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from blockrag.prompt import Prompt

Role = Literal["system", "user", "assistant"]

_BLOCKS = "\u2983blocks\u2984"
_MARK = re.compile("\u2983(\\d+)\u2984")


@dataclass(frozen=True)
class Message:
    """What one side said."""

    role: Role
    text: str


@dataclass(frozen=True)
class Framing:
    """Token ids of what stands before the blocks, and of all that follows them."""

    prefix_ids: tuple[int, ...]
    final_ids: tuple[int, ...]


class Conversation:
    """Messages on their way into one model's prompt.

    Parameters
    ----------
    prompt : Prompt
        The model's way of putting documents and question.
    messages : sequence of Message
        In order; the last one is usually the user's. What the system says is gathered at the beginning, and neighbours
        of one role are joined, since many templates insist that user and assistant take turns.
    """

    def __init__(self, prompt: Prompt, messages: Sequence[Message]):
        self._prompt = prompt
        self._texts: list[str] = []
        self._system = self._marks(m for m in messages if m.role == "system") or None
        others = (m for m in messages if m.role != "system")
        self._turns: list[tuple[str, str]] = [(role, self._marks(m)) for role, m in groupby(others, lambda m: m.role)]

    def alone(self) -> Framing:
        """The conversation without documents: nothing but a final block.

        Raises
        ------
        UnsupportedModelError
            If the chat template does not hand on what was said.
        """
        turns = self._turns or [("user", "")]
        return Framing((), tuple(self._ids(self._checked(self._prompt.rendered(self._system, turns)))))

    def around(self, note: str = "", *, fixed_prefix: bool = False) -> Framing:
        """What stands before and after the blocks, which belong to the user's first turn.

        Parameters
        ----------
        note : str
            Told after the blocks, before the first question.
        fixed_prefix : bool
            Whether the prefix must be the prompt's own, because blocks see it; what the system says then comes after
            the blocks.

        Raises
        ------
        UnsupportedModelError
            If the chat template does not hand on what was said.
        """
        notes = [self._mark(note)] if note else []
        if fixed_prefix and self._system:
            notes.insert(0, self._system)
        own_prefix = fixed_prefix or self._system is None
        turns = [(role, f"Question: {said}" if role == "user" else said) for role, said in self._turns]
        if not turns or turns[0][0] != "user":
            turns.insert(0, ("user", ""))
        turns[0] = ("user", "".join(["Documents:\n\n", _BLOCKS, *(f"{n}\n\n" for n in notes), turns[0][1]]))
        text = self._checked(self._prompt.rendered(self._prompt.system if own_prefix else self._system, turns))
        before, *after = text.split(_BLOCKS)
        if len(after) != 1:
            raise self._prompt.unusable(f"of the documents' place it makes {text!r}")
        return Framing(tuple(self._ids(before)), tuple(self._ids(after[0])))

    def _marks(self, messages: Iterable[Message]) -> str:
        return "\n\n".join(self._mark(m.text.strip()) for m in messages)

    def _mark(self, text: str) -> str:
        self._texts.append(text)
        return f"\u2983{len(self._texts) - 1}\u2984"

    def _checked(self, text: str) -> str:
        if sorted(map(int, _MARK.findall(text))) != list(range(len(self._texts))):
            raise self._prompt.unusable(f"of the conversation it makes {text!r}")
        return text

    def _ids(self, text: str) -> list[int]:
        """Token ids of rendered text: ours between the marks, what was said in their place."""
        ids: list[int] = []
        for i, piece in enumerate(_MARK.split(text)):
            ids += self._prompt.user_ids(self._texts[int(piece)]) if i % 2 else self._prompt.own_ids(piece)
        return ids
