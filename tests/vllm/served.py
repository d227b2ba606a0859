"""A vLLM engine in this process that serves SmolLM2 with its adapter, and our own engine beside it."""

import json
import os
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")

import torch  # noqa: E402
from vllm import LLM, SamplingParams  # noqa: E402
from vllm.config import KVTransferConfig  # noqa: E402
from vllm.lora.request import LoRARequest  # noqa: E402

from blockrag.attention.assemble import assemble  # noqa: E402
from blockrag.attention.encode import encode_blocks, encode_prefix  # noqa: E402
from blockrag.generate import last_logits, prefill  # noqa: E402
from blockrag.kv.disk import DiskTier  # noqa: E402
from blockrag.kv.key import kv_identity  # noqa: E402
from blockrag.models import local_path  # noqa: E402
from blockrag.models.load import load_answer_model  # noqa: E402
from blockrag.models.shipped import find_adapter  # noqa: E402
from blockrag.prompt import Prompt  # noqa: E402
from blockrag.vllm.client import VLLMClient  # noqa: E402

TOP = 20
"""Log-probabilities that are compared."""


@dataclass
class Answered:
    """An answer's tokens, the log-probabilities of the first, and the connector's report."""

    token_ids: list[int]
    logprobs: dict[int, float]
    report: dict[str, Any] = field(default_factory=dict)
    error: bool = False


class Server:
    """The engine of vLLM, asked with token ids."""

    def __init__(self, kv_dir: Path, loras: Path, **settings: Any):
        self.kv_dir = kv_dir
        self.loras = {
            mode: LoRARequest(mode, number, str(loras / mode)) for number, mode in enumerate(("block", "full"), start=1)
        }
        extra = {"kv_dir": str(kv_dir), **settings.pop("extra", {})}
        self.llm = LLM(
            model=str(local_path("smollm2")),
            dtype="float32",
            max_model_len=2048,
            block_size=32,
            num_gpu_blocks_override=70,  # few pages, so that batches are preempted
            enforce_eager=True,
            enable_lora=True,
            max_lora_rank=64,
            max_loras=2,
            kv_transfer_config=KVTransferConfig(
                kv_connector="BlockRAGConnector",
                kv_connector_module_path="blockrag.vllm.connector",
                kv_role="kv_both",
                kv_connector_extra_config=extra,
            ),
            **{"max_num_seqs": 8, "max_num_batched_tokens": 256, **settings},
        )

    def ask(self, *requests: tuple[list[int], dict | None], n: int = 8, lora: str | None = "block", **more):
        """Answer a batch of (prompt, parameters); without parameters in full attention."""
        sampling = [
            SamplingParams(
                temperature=0,
                max_tokens=n,
                logprobs=TOP,
                ignore_eos=True,
                extra_args={"kv_transfer_params": {"blockrag": params}} if params else None,
                **more,
            )
            for _, params in requests
        ]
        prompts = [{"prompt_token_ids": prompt} for prompt, _ in requests]
        lora_request = self.loras[lora] if lora else None
        return [_answered(o) for o in self.llm.generate(prompts, sampling, use_tqdm=False, lora_request=lora_request)]

    def encode(self, *requests: tuple[list[int], int]):
        """Encode blocks, each given as a prompt and the length of its prefix."""
        return self.ask(*((prompt, {"v": 1, "prefix": n, "encode": True}) for prompt, n in requests), n=1)

    def encode_all(self, case: "Case"):
        prefix = case.prefix
        return self.encode((prefix, len(prefix))) + self.encode(*((prefix + b, len(prefix)) for b in case.blocks))


def _answered(output: Any) -> Answered:
    answer = output.outputs[0]
    failed = answer.finish_reason == "error"
    logprobs = {} if failed else {token: each.logprob for token, each in answer.logprobs[0].items()}
    report = (output.kv_transfer_params or {}).get("blockrag", {})
    return Answered(list(answer.token_ids), logprobs, report, failed)


@dataclass
class Case:
    """A prompt of a prefix, blocks and a question."""

    prefix: list[int]
    blocks: list[list[int]]
    final: list[int]

    @property
    def prompt(self) -> list[int]:
        return [*self.prefix, *(token for block in self.blocks for token in block), *self.final]

    @property
    def params(self) -> dict:
        return {"v": 1, "prefix": len(self.prefix), "blocks": [len(block) for block in self.blocks]}


class OwnEngine:
    """Block mode as our own engine computes it."""

    def __init__(self, name="smollm2"):
        self.model = load_answer_model(name, dtype=torch.float32, adapter=find_adapter("auto", name))
        self.prompt = Prompt(self.model.tokenizer)
        self._encoded = {}

    def case(self, texts: list[str], question: str) -> Case:
        blocks = [self.prompt.block_ids(text) for text in texts]
        return Case(list(self.prompt.prefix_ids), blocks, self.prompt.final_ids(question))

    def encoded(self, case: Case):
        prefix, blocks = tuple(case.prefix), [tuple(block) for block in case.blocks]
        if prefix not in self._encoded:
            self._encoded[prefix] = encode_prefix(self.model, prefix)
        new = [block for block in dict.fromkeys(blocks) if block not in self._encoded]
        for each in encode_blocks(self.model, new, self._encoded[prefix]):
            self._encoded[new[each.number]] = each.kv
        return [self._encoded[part] for part in (prefix, *blocks)]

    def store(self, case: Case, folder: Path):
        """Keep the blocks' KV as an index of ours does."""
        identity = kv_identity(self.model)
        tier = DiskTier(folder, None, identity.digest)
        for block, kv in zip(case.blocks, self.encoded(case)[1:], strict=True):
            assert tier.put(identity.key(block), kv)

    @torch.inference_mode()
    def ask(self, case: Case, n: int = 8) -> Answered:
        parts = self.encoded(case)
        cache = assemble(parts, self.model.rope, self.model.kv_storage(len(case.prompt) + n))
        logits = prefill(self.model, case.final, cache)
        tokens, logprobs = [int(logits.argmax())], logits.float().log_softmax(-1)
        while len(tokens) < n:
            tokens.append(int(last_logits(self.model, tokens[-1:], cache, 1)[0].argmax()))
        return Answered(tokens, dict(enumerate(logprobs.tolist())))


def difference(one: Answered, other: Answered) -> float:
    """Largest difference of the log-probabilities that both have."""
    common = one.logprobs.keys() & other.logprobs.keys()
    assert len(common) >= TOP // 2
    return max(abs(one.logprobs[token] - other.logprobs[token]) for token in common)


def client_of(url) -> VLLMClient:
    return VLLMClient(url, (), find_adapter("auto", "smollm2").prefix_visible)


def answered(url, case: Case, block_mode: bool, n: int = 8) -> Answered:
    """An answer with log-probabilities, as any client of the OpenAI API asks for them."""
    body = {
        "model": "block", "prompt": case.prompt, "max_tokens": n, "temperature": 0, "logprobs": TOP,
        "return_tokens_as_token_ids": True, "return_token_ids": True, "ignore_eos": True,
    }  # fmt: skip
    if block_mode:
        body["kv_transfer_params"] = {"blockrag": case.params}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as response:
        told = json.load(response)
    choice = told["choices"][0]
    logprobs = {int(name.removeprefix("token_id:")): p for name, p in choice["logprobs"]["top_logprobs"][0].items()}
    return Answered(choice["token_ids"], logprobs, (told.get("kv_transfer_params") or {}).get("blockrag", {}))
