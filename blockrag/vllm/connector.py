"""BlockRAG's connector for vLLM: loads the KV of blocks into the pages of a request, and saves what vLLM encoded.

vLLM makes one instance in the scheduler's process and one in each worker's. Written for vLLM 0.32, whose interface of
connectors (`KVConnectorBase_V1`) is experimental.
"""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import vllm
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size, get_tp_group
from vllm.distributed.kv_transfer import get_kv_transfer_group
from vllm.distributed.kv_transfer.kv_connector.v1.base import (
    KVConnectorBase_V1,
    KVConnectorMetadata,
    KVConnectorRole,
    KVConnectorTransferResults,
    SupportsHMA,
)
from vllm.logger import init_logger
from vllm.model_executor.layers.rotary_embedding import _ROPE_DICT
from vllm.model_executor.models.utils import extract_layer_index
from vllm.platforms import current_platform

from blockrag.attention.rope import Rope
from blockrag.engine import KV_READERS
from blockrag.errors import BlockRAGError, UnsupportedModelError
from blockrag.kv.block_kv import BlockKV
from blockrag.models.answer_model import AnswerModel
from blockrag.models.families import check_supported, has_plain_attention
from blockrag.models.load import weightless
from blockrag.models.store import local_path, weights_sha256
from blockrag.vllm.pages import PageLayout, heads_of, joined, slots_of
from blockrag.vllm.plan import PARAMETER, Part, Plan, ServedModel, make_plan, served_model
from blockrag.vllm.store import BlockStore, Settings

TESTED = "0.32."

ROPE_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 1e-2, torch.float16: 2e-3}
"""vLLM computes angles in float32 and keeps cosines in the model's type."""

_LOG = init_logger("vllm.blockrag")


@dataclass(frozen=True)
class Load:
    """Tokens ``[lo, hi)`` of a request that a worker writes to the request's pages.

    Without parts the request was refused, and the load fails, which makes vLLM fail the request.
    """

    request_id: str
    parts: tuple[Part, ...]
    lo: int
    hi: int
    pages: list[int]
    refusal: str = ""


@dataclass(frozen=True)
class Save:
    """A part whose KV a worker reads from the request's pages after this step."""

    request_id: str
    part: Part
    pages: list[int]


@dataclass
class Orders(KVConnectorMetadata):
    """What the workers do in one step."""

    loads: list[Load] = field(default_factory=list)
    saves: list[Save] = field(default_factory=list)


@dataclass
class Tracked:
    """A request of ours in the scheduler."""

    request: Any
    plan: Plan
    refusal: str = ""
    is_saved: bool = False


class BlockRAGConnector(KVConnectorBase_V1, SupportsHMA):
    """See the module, and `blockrag.vllm.plan` for the requests.

    Raises
    ------
    UnsupportedModelError, ArgumentError, WeightsError
        If the server is set up in a way that would give wrong answers; see `check_setup`.
    """

    def __init__(self, vllm_config: VllmConfig, role: KVConnectorRole, kv_cache_config: Any):
        super().__init__(vllm_config=vllm_config, role=role, kv_cache_config=kv_cache_config)
        settings = Settings.read(self._kv_transfer_config.kv_connector_extra_config)
        check_setup(vllm_config, kv_cache_config, settings)
        self._page_size = vllm_config.cache_config.block_size
        self._store = BlockStore(settings)
        self._tracked: dict[str, Tracked] = {}
        self._waiting: list[Load] = []
        self._models: dict[str | None, ServedModel] = {}
        if role == KVConnectorRole.SCHEDULER:
            config = vllm_config.model_config
            self._folder = local_path(config.model)
            self._weights, self._dtype = weights_sha256(self._folder), str(config.dtype).removeprefix("torch.")
            self._served(None)  # a damaged description stops the start, not the first request
        else:
            network = weightless(vllm_config.model_config.hf_config)
            self._rope = AnswerModel(network, None, "", allow_unverified=settings.allow_unverified).rope
            self._readers = ThreadPoolExecutor(KV_READERS, "blockrag-load")
            self._loading: dict[str, tuple[Load, Future[tuple[torch.Tensor, torch.Tensor]]]] = {}
            self._layout: PageLayout | None = None

    # The scheduler's side. An exception here would end the engine for all requests.

    def on_new_request(self, request: Any) -> None:
        """Plan a request, and give its prefix cache a salt before any page is looked up."""
        params = (request.kv_transfer_params or {}).get(PARAMETER)
        if params is None:
            return
        try:
            if request.prompt_token_ids is None:
                raise UnsupportedModelError("the prompt has no token ids")
            if request.skip_reading_prefix_cache:  # vLLM computes the whole prompt then, in full attention
                raise UnsupportedModelError("block mode cannot give log-probabilities of the prompt, nor echo it")
            model, tokens = self._served(request.lora_request), request.prompt_token_ids
            plan = make_plan(params, tokens, model, request.cache_salt, self._store.is_in_folder)
            self._tracked[request.request_id] = Tracked(request, plan)
        except Exception as error:  # any: it must fail this request, not the engine
            _LOG.warning("request %s is refused: %s", request.request_id, error)
            plan = Plan("block", end=request.num_prompt_tokens - 1, salt=f"{PARAMETER}:refused:{request.request_id}")
            self._tracked[request.request_id] = Tracked(request, plan, refusal=str(error))
        if plan.salt is not None and not request.skip_reading_prefix_cache:
            request.cache_salt = plan.salt
            request.block_hashes.clear()
            request.update_block_hashes()

    def _served(self, lora: Any) -> ServedModel:
        path = None if lora is None else lora.lora_path
        if path not in self._models:
            folder = self._folder if path is None else Path(path)
            self._models[path] = served_model(self._weights, self._dtype, folder, is_adapter=path is not None)
        return self._models[path]

    def get_num_new_matched_tokens(self, request: Any, num_computed_tokens: int) -> tuple[int, bool]:
        """All tokens that the plan loads, whether they are in the store or not: without them vLLM would compute full
        attention. A load that fails fails the request."""
        tracked = self._tracked.get(request.request_id)
        n = 0 if tracked is None else max(0, tracked.plan.end - num_computed_tokens)
        return n, n > 0

    def update_state_after_alloc(self, request: Any, blocks: Any, num_external_tokens: int) -> None:
        """Order the load into the pages that the request got."""
        if num_external_tokens:
            tracked = self._tracked[request.request_id]
            end, pages = tracked.plan.end, list(blocks.get_block_ids()[0])
            load = Load(request.request_id, tracked.plan.load, end - num_external_tokens, end, pages, tracked.refusal)
            self._waiting.append(load)

    def build_connector_meta(self, scheduler_output: Any) -> Orders:
        """The loads since the last step, and the parts whose prompt this step completes."""
        orders = Orders(self._waiting)
        self._waiting = []
        for request_id, n_tokens in scheduler_output.num_scheduled_tokens.items():
            tracked = self._tracked.get(request_id)
            if tracked is None or tracked.plan.save is None or tracked.is_saved:
                continue
            part = tracked.plan.save
            if tracked.request.num_computed_tokens + n_tokens >= part.start + part.n_tokens:
                pages = scheduler_output.kv_connector_block_state.get_block_ids(request_id)[0]
                orders.saves.append(Save(request_id, part, list(pages)))
                tracked.is_saved = True
        return orders

    def request_finished_all_groups(self, request: Any, block_ids: Any) -> tuple[bool, dict[str, Any] | None]:
        """Report what was done under `PARAMETER` of the response's ``kv_transfer_params``."""
        tracked = self._tracked.pop(request.request_id, None)
        if tracked is None:
            return False, None
        if tracked.refusal:
            return False, {PARAMETER: {"mode": "full", "n_loaded": 0, "error": tracked.refusal}}
        return False, {PARAMETER: {"mode": tracked.plan.mode, "n_loaded": tracked.plan.end}}

    def request_finished(self, request: Any, block_ids: Any) -> tuple[bool, dict[str, Any] | None]:
        """See `request_finished_all_groups`."""
        return self.request_finished_all_groups(request, block_ids)

    # The worker's side.

    def register_kv_caches(self, kv_caches: dict[str, torch.Tensor]) -> None:
        """Check the rotary positions, and that no other connector shares the pages.

        Raises
        ------
        UnsupportedModelError
            If vLLM computes other angles, or another connector would store block KV under ordinary keys.
        """
        if get_kv_transfer_group() is not self:
            raise UnsupportedModelError(
                "BlockRAGConnector stands beside another connector, which would store block KV as if it were ordinary "
                "KV. Make it the only one."
            )
        names = sorted(kv_caches, key=extract_layer_index)
        context = self._vllm_config.compilation_config.static_forward_context
        self._layers = [context[name] for name in names]
        n_layers = self._vllm_config.model_config.hf_config.num_hidden_layers
        if [extract_layer_index(name) for name in names] != list(range(n_layers)):
            raise UnsupportedModelError(f"the layers with KV are {names}; expected one for each of {n_layers}")
        check_rope(self._rope, self._vllm_config.model_config.dtype)

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        """Start to read and rotate what was ordered; it is written to the pages by `get_transfer_results`."""
        for load in self._get_connector_metadata().loads:
            self._loading[load.request_id] = (load, self._readers.submit(self._gather, load))

    def _gather(self, load: Load) -> tuple[torch.Tensor, torch.Tensor]:
        if load.refusal:
            raise UnsupportedModelError(load.refusal)
        parts = [(part.start, self._store.get(part)) for part in load.parts if part.start + part.n_tokens > load.lo]
        n_heads = self._vllm_config.model_config.get_total_num_kv_heads()
        heads = heads_of(get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size(), n_heads)
        return joined(parts, self._rope, load.lo, load.hi, heads)

    def get_transfer_results(self, finished_req_ids: set[str]) -> KVConnectorTransferResults:
        """Write the loads that are ready, from the thread that runs the network, so that a GPU orders them before the
        next step. A load that fails is logged, and fails its request alone."""
        results = KVConnectorTransferResults()
        for request_id, (load, future) in list(self._loading.items()):
            if not future.done():
                continue
            del self._loading[request_id]
            results.finished_recving.add(request_id)
            try:
                self._write(load, *future.result())
            except Exception as error:  # any: it must fail this request, not the engine
                _LOG.error("request %s fails: %s", request_id, error)
                results.failed_recving.add(request_id)
        return results

    def _write(self, load: Load, keys: torch.Tensor, values: torch.Tensor) -> None:
        device = self._layers[0].kv_cache.device
        slots = slots_of(torch.tensor(load.pages, device=device), load.lo, load.hi, self._page_size)
        for layer, *kv in zip(self._layers, keys.to(device), values.to(device), strict=True):
            layer.impl.do_kv_cache_update(layer, *kv, layer.kv_cache, slots)

    def wait_for_save(self) -> None:
        """Save the parts that this step completed. A part that cannot be kept is logged; it will be missing later."""
        for save in self._get_connector_metadata().saves:
            kv = self._read(save)
            if get_tensor_model_parallel_rank() > 0:
                continue
            try:
                self._store.put(save.part, kv)
            except BlockRAGError as error:
                _LOG.error("the block KV of request %s is not kept: %s", save.request_id, error)

    def _read(self, save: Save) -> BlockKV:
        """The KV of all layers and heads; every rank takes part."""
        first, part = self._layers[0], save.part
        if self._layout is None:

            def write(keys: torch.Tensor, values: torch.Tensor, slots: torch.Tensor) -> None:
                first.impl.do_kv_cache_update(first, keys, values, first.kv_cache, slots)

            shape = (self._page_size, first.num_kv_heads, first.head_size)
            self._layout = PageLayout.learn(first.kv_cache, write, shape)
        pages = torch.tensor(save.pages, device=first.kv_cache.device)
        lo, hi = part.start, part.start + part.n_tokens
        kv = torch.stack([self._layout.read(layer.kv_cache, pages, lo, hi) for layer in self._layers], dim=1)
        n_heads, n_ranks = (
            self._vllm_config.model_config.get_total_num_kv_heads(),
            get_tensor_model_parallel_world_size(),
        )
        if n_ranks > 1:
            kv = get_tp_group().all_gather(kv, dim=2)[:, :, :: max(1, n_ranks // n_heads)]
        keys, values = kv.cpu().contiguous()
        return BlockKV(keys, values, part.first_position)

    def wait_for_layer_load(self, layer_name: str) -> None:
        """Nothing to do: a request runs once all its layers are loaded."""

    def save_kv_layer(self, layer_name: str, kv_layer: torch.Tensor, attn_metadata: Any, **kwargs: Any) -> None:
        """Nothing to do: see `wait_for_save`."""

    def shutdown(self) -> None:
        """End the readers."""
        if self.role == KVConnectorRole.WORKER:
            self._readers.shutdown(cancel_futures=True)


def check_setup(vllm_config: VllmConfig, kv_cache_config: Any, settings: Settings) -> None:
    """Refuse a server that would answer wrongly.

    Raises
    ------
    UnsupportedModelError
        With the setting that must change.
    """
    transfer, parallel = vllm_config.kv_transfer_config, vllm_config.parallel_config
    wrong = {
        **({} if settings.allow_untested else untested()),
        "kv_load_failure_policy other than fail, which loads for ever or answers in full attention": (
            transfer.kv_load_failure_policy != "fail"
        ),
        f"kv_role {transfer.kv_role}, expected kv_both": transfer.kv_role != "kv_both",
        "more than one group of KV pages": len(kv_cache_config.kv_cache_groups) != 1,
        "KV pages in another type than the model's": vllm_config.cache_config.cache_dtype != "auto",
        "pipeline parallelism": parallel.pipeline_parallel_size > 1,
        "context parallelism": getattr(parallel, "decode_context_parallel_size", 1) > 1,
        "speculative decoding": vllm_config.speculative_config is not None,
    }
    for what, is_so in wrong.items():
        if is_so:
            raise UnsupportedModelError(f"BlockRAGConnector does not work with {what}.")
    config = vllm_config.model_config.hf_config
    check_supported(config, allow_unverified=settings.allow_unverified)
    if not has_plain_attention(config):
        raise UnsupportedModelError(
            f"BlockRAGConnector does not work with windows, caps or sinks ({config.model_type})."
        )


def untested() -> dict[str, bool]:
    """What was never tried, and whether it is so; the setting `allow_untested` starts all the same."""
    return {
        f"vLLM {vllm.__version__} (tested: {TESTED}x; allow_untested starts all the same)": (
            not vllm.__version__.startswith(TESTED)
        ),
        "a device other than a CPU (not tested yet; allow_untested starts all the same)": not current_platform.is_cpu(),
    }


def check_rope(rope: Rope, dtype: torch.dtype, modules: Iterable[Any] | None = None) -> None:
    """Compare with the angles that vLLM computes, up to a common factor of cosine and sine (YaRN).

    Raises
    ------
    UnsupportedModelError
        If they differ, or vLLM computes none.
    """
    found = list(_ROPE_DICT.values() if modules is None else modules)
    is_same = bool(found)
    for module in found:
        cos, sin = module.cos_sin_cache.double().cpu().chunk(2, dim=-1)
        scale = cos[0, 0]
        for position in (1, 10, 100, 1000):
            if position < len(cos):
                angle = rope.inv_freq * position
                expected = torch.stack([angle.cos(), angle.sin()]) * scale
                got = torch.stack([cos[position], sin[position]])
                is_same &= got.shape == expected.shape and bool((got - expected).abs().max() < ROPE_TOLERANCE[dtype])
        is_same &= module.is_neox_style != rope.interleaved
    if not is_same:
        raise UnsupportedModelError(
            f"vLLM's rotary positions are not those of the model's configuration ({len(found)} compared), so that "
            "cached keys cannot be moved."
        )
