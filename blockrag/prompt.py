"""The prompt's three kinds of parts as token ids: prefix, block, final block. Knows the tokenizer, not the network.

Parts are tokenised one by one, in full and in block mode alike, so that a block has the same tokens wherever it stands.
"""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from jinja2 import TemplateError
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from blockrag.errors import UnsupportedModelError

SYSTEM = (
    "Answer the question from the documents that the user gives. Be brief and use the documents' own words. "
    "If the documents do not say, answer that they do not say."
)
BLOCK_END = "\n\n"
_BLOCKS, _QUESTION = "\u2983blocks\u2984", "\u2983question\u2984"


@dataclass(frozen=True)
class Prompt:
    """How documents and question are put to one model.

    Attributes
    ----------
    tokenizer : PreTrainedTokenizerBase
        Its chat template is used where it has one; otherwise a plain question-and-answer form.
    system : str
        Instruction at the start of the prefix.
    """

    tokenizer: PreTrainedTokenizerBase
    system: str = SYSTEM

    @cached_property
    def _frame(self) -> tuple[str, str, str]:
        """Text before the blocks, between blocks and question, and after the question."""
        return self._cut(self.rendered(self.system, [("user", f"Documents:\n\n{_BLOCKS}Question: {_QUESTION}")]))

    def rendered(self, system: str | None, turns: Sequence[tuple[str, str]]) -> str:
        """The text of a conversation, up to the header of the answer.

        Parameters
        ----------
        system : str or None
            The instruction; it goes to the user's first turn where the template has no place for it.
        turns : sequence of (role, text)
            Of ``"user"`` and ``"assistant"``, in turn.

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
        if not text or system.strip() not in text:  # others leave it out
            first, *rest = messages
            text = self._chat({**first, "content": f"{system}\n\n{first['content']}".lstrip()}, *rest)
        return text

    def _chat(self, *messages: dict[str, str]) -> str:
        """`messages` and the header of an answer, without thinking where the template has a switch for it."""
        try:
            return self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise self.unusable(f"it fails ({error})") from error

    def _cut(self, text: str) -> tuple[str, str, str]:
        pieces = re.split(f"{_BLOCKS}|{_QUESTION}", text)
        if len(pieces) != 3:
            raise self.unusable(f"of the user's turn it makes {text!r}")
        before, between, after = pieces
        return before, between, after

    def unusable(self, reason: str) -> UnsupportedModelError:
        """The error that a chat template deserves which loses or doubles what was said."""
        return UnsupportedModelError(
            f"the chat template of {self.tokenizer.name_or_path or 'the tokenizer'} does not hand on what the user "
            f"says once and whole: {reason}. Use another model, or remove the template for a plain form without one."
        )

    @cached_property
    def prefix_ids(self) -> tuple[int, ...]:
        """Token ids of everything before the first block."""
        return tuple(self.own_ids(self._frame[0]))

    def block_ids(self, text: str) -> list[int]:
        """Token ids of one block: its text, white space at the end made uniform. Without sinks."""
        return self.user_ids(text.rstrip() + BLOCK_END)

    def final_ids(self, question: str) -> list[int]:
        """Token ids of the final block: the question and the header of the answer."""
        before, after = self._around_question
        return [*before, *self.user_ids(question.strip()), *after]

    def next_ids(self, question: str) -> list[int]:
        """Token ids of a further question of the same conversation, behind an answer and the token that ended it."""
        before, after = self._around_next
        return [*before, *self.user_ids(question.strip()), *after]

    @cached_property
    def _around_next(self) -> tuple[list[int], list[int]]:
        """Tokens between an answer and the next question, and after that."""
        if self.tokenizer.chat_template is None:
            return self.own_ids("\n\nQuestion: "), self.own_ids("\nAnswer:")
        turns = [("user", "?"), ("assistant", _BLOCKS), ("user", f"Question: {_QUESTION}")]
        _, between, after = self._cut(self._chat(*({"role": role, "content": text} for role, text in turns)))
        end = self.tokenizer.eos_token
        if end and between.lstrip().startswith(end):
            between = between.lstrip().removeprefix(end)  # an answer has it already
        return self.own_ids(between), self.own_ids(after)

    @cached_property
    def _around_question(self) -> tuple[list[int], list[int]]:
        return self.own_ids(self._frame[1]), self.own_ids(self._frame[2])

    def own_ids(self, text: str) -> list[int]:
        """Token ids of text that is ours: the template's control tokens are control tokens."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def user_ids(self, text: str) -> list[int]:
        """Token ids of text that is not ours: a control token written in it stays the letters that it is (rule 9)."""
        return self._literal_core.encode(text, add_special_tokens=False).ids

    @cached_property
    def _literal_core(self) -> Tokenizer:
        """A tokenizer of its own, since what it does with control tokens is a switch that all threads would share."""
        core = copy.deepcopy(self.tokenizer.backend_tokenizer)
        core.encode_special_tokens = True
        core.no_truncation()
        core.no_padding()
        return core
