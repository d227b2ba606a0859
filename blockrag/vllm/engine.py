"""An engine whose network runs in a vLLM server: documents, search and prompts are here, keys and values there."""

from collections.abc import Mapping, Sequence

from blockrag.admission import FairQueue
from blockrag.engine import Engine
from blockrag.kv.key import kv_identity
from blockrag.kv.tiered import TieredKV
from blockrag.models import DEFAULT_EMBEDDER
from blockrag.models.adapter import load_adapter
from blockrag.models.answer_model import AnswerModel
from blockrag.models.load import describe_answer_model
from blockrag.models.shipped import AUTO, adapter_folder
from blockrag.progress import OnProgress, Progress, ignore
from blockrag.prompt import Prompt
from blockrag.retrieve.embedder import Embedder, load_embedder
from blockrag.retrieve.reranker import Reranker
from blockrag.vllm.client import ENCODED_AT_ONCE, VLLMClient

SLOTS = 32
"""Answers at once; the server has a queue of its own."""


TEST_BLOCK, TEST_QUESTION = "The Tiber rises in the Apennines and flows through Rome.", "Which river is it?"
"""The prompt of the self-test."""


class ServedEngine(Engine):
    """Use it wherever an `Engine` is used. It keeps no block KV; the server's store does, and evicts by its own budget.

    Parameters
    ----------
    server : VLLMClient
    model : AnswerModel
        A description without weights; see `describe_answer_model`.
    embedder : Embedder
    adapter : str, optional
        Name of the adapter whose LoRA or merged checkpoint the server runs.
    """

    server: VLLMClient

    def __init__(
        self,
        server: VLLMClient,
        model: AnswerModel,
        embedder: Embedder,
        adapter: str | None = None,
        reranker: Reranker | None = None,
    ):
        self.server = server
        self.model = self.full_model = model
        self.adapter, self.embedder, self.reranker, self.kv = adapter, embedder, reranker, TieredKV([])
        self.prompt = Prompt(model.tokenizer)
        self.prompt.final_ids("")  # creates its tokenizers now, not at the first question
        self.identity = kv_identity(model)
        self.queue = FairQueue(SLOTS)
        self.observers = []

    def __repr__(self) -> str:
        return f"ServedEngine({self.server!r}, adapter {self.adapter!r})"

    @classmethod
    def connect(
        cls,
        url: str,
        model: str,
        *,
        adapter: str = AUTO,
        embedder: str = DEFAULT_EMBEDDER,
        query_prefix: str | None = None,
        passage_prefix: str | None = None,
        reranker: str | None = None,
        device: str | None = None,
        api_key: str | None = None,
        allow_unverified: bool = False,
    ) -> "ServedEngine":
        """Load tokenizer, configuration and embedder, test the server, and have it encode the prompt's prefix.

        Parameters
        ----------
        url, api_key
            See `VLLMClient`.
        model, adapter : str
            What the server runs; see `Engine.from_pretrained`. A checkpoint that `merge` wrote needs no adapter.
        embedder, query_prefix, passage_prefix, reranker, device
            See `Engine.from_pretrained`; the device is that of embedder and reranker.
        allow_unverified : bool
            See `check_supported`.

        Raises
        ------
        ServerError
            If the server cannot be reached, runs without our connector, or fails its self-test.
        ArgumentError, WeightsError, UnsupportedModelError
        """
        folder = adapter_folder(adapter, model)
        loaded = load_adapter(folder) if folder else None
        described = describe_answer_model(model, adapter=loaded, allow_unverified=allow_unverified)
        block_format = described.format
        server = VLLMClient(url, block_format.sink_ids, block_format.prefix_visible, api_key=api_key)
        encoder = load_embedder(embedder, device, query_prefix, passage_prefix)
        second = Reranker(reranker, device) if reranker else None
        engine = cls(server, described, encoder, folder.name if folder else None, second)
        prompt = engine.prompt
        server.self_test(prompt.prefix_ids, prompt.block_ids(TEST_BLOCK), prompt.final_ids(TEST_QUESTION))
        server.ensure(prompt.prefix_ids, [])
        return engine

    def warm_blocks(self, blocks: Mapping[str, Sequence[int]], on_progress: OnProgress | None = None) -> None:
        """Have the server encode blocks, given by key, that its store lacks."""
        tell, todo = on_progress or ignore, list(blocks.values())
        tell(Progress("encode", 0, len(todo), 0))
        for start in range(0, len(todo), ENCODED_AT_ONCE):
            self.server.ensure(self.prompt.prefix_ids, todo[start : start + ENCODED_AT_ONCE])
            tell(Progress("encode", min(start + ENCODED_AT_ONCE, len(todo)), len(todo), 0))
