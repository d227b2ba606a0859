"""The prompt as token ids: prefix, blocks, and the final block with a question or a conversation.

Parts are tokenised one by one, in full and in block mode, so that a block has the same tokens in every prompt. Text of
users and documents is never parsed for control tokens (rule 9): each piece is tokenised alone, and replaces a mark in
the rendered template.
"""

import copy
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Literal

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from blockrag.documents.document import without_surrogates
from blockrag.errors import UnsupportedModelError

SYSTEM = (
    "Answer the question from the documents that the user gives. Be brief and use the documents' own words. "
    "If the documents do not say, answer that they do not say."
)
BLOCK_END = "\n\n"

Role = Literal["system", "user", "assistant"]

_BLOCKS = "\u2983blocks\u2984"
_MARK = re.compile("\u2983(\\d+)\u2984")


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: Role
    text: str


@dataclass(frozen=True)
class Framing:
    """Token ids before the blocks and after them."""

    prefix_ids: tuple[int, ...]
    final_ids: tuple[int, ...]


class _Marks:
    """Texts of users and documents, each represented by a mark while a template is rendered."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, text: str) -> str:
        self.texts.append(text)
        return f"\u2983{len(self.texts) - 1}\u2984"

    def join(self, messages: Iterable[Message]) -> str:
        return "\n\n".join(self.add(m.text.strip()) for m in messages)

    def are_all_in(self, text: str) -> bool:
        """Whether each mark occurs exactly once."""
        return sorted(map(int, _MARK.findall(text))) == list(range(len(self.texts)))


@dataclass(frozen=True)
class Prompt:
    """How documents, questions and conversations are put to one model.

    System messages of a conversation are moved to the beginning, and neighbouring messages of one role are joined,
    since many templates require that user and assistant alternate.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
        Its chat template is used where it has one; otherwise a plain question-and-answer form.
    system : str
        Instruction at the start of the prefix.
    """

    tokenizer: PreTrainedTokenizerBase
    system: str = SYSTEM

    @property
    def prefix_ids(self) -> tuple[int, ...]:
        """Token ids of everything before the first block."""
        return self._frame[0]

    def block_ids(self, text: str) -> list[int]:
        """Token ids of one block: its text with uniform white space at the end. Without sinks."""
        return self.user_ids(text.rstrip() + BLOCK_END)

    def final_ids(self, question: str) -> list[int]:
        """Token ids of the final block: the question and the header of the answer."""
        _, before, after = self._frame
        return [*before, *self.user_ids(question.strip()), *after]

    @cached_property
    def _frame(self) -> tuple[tuple[int, ...], ...]:
        """The framing of a plain question: token ids before the blocks, before the question, and after it."""
        before, after, _ = self._split([Message("user", "")], "", fixed_prefix=True)
        before_question, _, after_question = _MARK.split(after)
        return tuple(tuple(self.own_ids(text)) for text in (before, before_question, after_question))

    def around(self, messages: Sequence[Message], note: str = "", *, fixed_prefix: bool = False) -> Framing:
        """The framing of blocks, which belong to the user's first turn.

        Parameters
        ----------
        messages : sequence of Message
            In order; the last one is usually the user's.
        note : str
            Inserted after the blocks, before the first question.
        fixed_prefix : bool
            Keep the prompt's own prefix, because blocks see it; system messages then come after the blocks.

        Raises
        ------
        UnsupportedModelError
            If the chat template loses or doubles a message.
        """
        before, after, marks = self._split(messages, note, fixed_prefix)
        is_own = fixed_prefix or all(m.role != "system" for m in messages)
        prefix_ids = self.prefix_ids if is_own else tuple(self._ids(before, marks))
        return Framing(prefix_ids, tuple(self._ids(after, marks)))

    def alone(self, messages: Sequence[Message]) -> Framing:
        """A conversation without documents: only a final block.

        Raises
        ------
        UnsupportedModelError
            If the chat template loses or doubles a message.
        """
        system, turns, marks = _arranged(messages)
        return Framing((), tuple(self._ids(self._checked(self.rendered(system, turns), marks), marks)))

    def own_ids(self, text: str) -> list[int]:
        """Token ids of the template's own text, control tokens included."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def user_ids(self, text: str) -> list[int]:
        """Token ids of text of users and documents: control tokens in it are read as plain letters (rule 9)."""
        return self._literal_core.encode(without_surrogates(text), add_special_tokens=False).ids

    def rendered(self, system: str | None, turns: Sequence[tuple[str, str]]) -> str:
        """Render a conversation, up to the header of the answer.

        Parameters
        ----------
        system : str or None
            The instruction; if the template has no place for it, it goes to the user's first turn.
        turns : sequence of (role, text)
            Of ``"user"`` and ``"assistant"``, alternating.

        Raises
        ------
        UnsupportedModelError
            If the chat template fails.
        """
        if self.tokenizer.chat_template is None:
            said = "".join(f"{text}\nAnswer:" if role == "user" else f" {text}\n\n" for role, text in turns)
            return said if system is None else f"{system}\n\n{said}"
        messages = [{"role": role, "content": text} for role, text in turns]
        if system is None:
            return self._chat(*messages)
        try:
            text = self._chat({"role": "system", "content": system}, *messages)
        except UnsupportedModelError:  # Gemma's template refuses a system's turn
            text = ""
        if not text or system.strip() not in text:  # other templates drop it
            first, *rest = messages
            text = self._chat({**first, "content": f"{system}\n\n{first['content']}".lstrip()}, *rest)
        return text

    def _split(self, messages: Sequence[Message], note: str, fixed_prefix: bool) -> tuple[str, str, _Marks]:
        """Rendered text before the blocks and after them, and the marks in it."""
        system, turns, marks = _arranged(messages)
        notes = [marks.add(note)] if note else []
        if fixed_prefix and system:
            notes.insert(0, system)
        turns = [(role, f"Question: {said}" if role == "user" and said else said) for role, said in turns]
        if turns[0][0] != "user":
            turns.insert(0, ("user", ""))
        turns[0] = ("user", "".join(["Documents:\n\n", _BLOCKS, *(f"{n}\n\n" for n in notes), turns[0][1]]))
        text = self.rendered(self.system if fixed_prefix or system is None else system, turns)
        before, *after = self._checked(text, marks).split(_BLOCKS)
        if len(after) != 1:
            raise self._unusable(f"the documents are lost or doubled in {text!r}")
        return before, after[0], marks

    def _checked(self, text: str, marks: _Marks) -> str:
        if not marks.are_all_in(text):
            raise self._unusable(f"a message is lost or doubled in {text!r}")
        return text

    def _ids(self, text: str, marks: _Marks) -> list[int]:
        """Token ids of rendered text, with the texts in place of their marks."""
        ids: list[int] = []
        for i, piece in enumerate(_MARK.split(text)):
            ids += self.user_ids(marks.texts[int(piece)]) if i % 2 else self.own_ids(piece)
        return ids

    def _chat(self, *messages: dict[str, str]) -> str:
        """Render `messages` and the header of an answer; thinking is switched off if the template can."""
        try:
            return self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise self._unusable(f"it fails ({error})") from error

    def _unusable(self, reason: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"the chat template of {self.tokenizer.name_or_path or 'the tokenizer'} does not render each message "
            f"exactly once: {reason}. Use another model, or remove the template to use a plain form."
        )

    @cached_property
    def _literal_core(self) -> Tokenizer:
        """A copy of the tokenizer, since its handling of control tokens is a setting that all threads would share."""
        core = copy.deepcopy(self.tokenizer.backend_tokenizer)
        core.encode_special_tokens = True
        core.no_truncation()
        core.no_padding()
        return core


def _arranged(messages: Sequence[Message]) -> tuple[str | None, list[tuple[str, str]], _Marks]:
    """The system's text, if any; the turns of user and assistant; and the marks in both."""
    marks = _Marks()
    system = marks.join(m for m in messages if m.role == "system") or None
    others = (m for m in messages if m.role != "system")
    turns = [(role, marks.join(m)) for role, m in groupby(others, lambda m: m.role)]
    return system, turns or [("user", "")], marks
