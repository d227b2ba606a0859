"""The CUDA path against the reference; runs where there is a GPU: ``pytest -m gpu --no-cov``."""

import pytest
import torch
from paths import cached_logits, encode_all
from tiny import FAMILIES, ROPE, tiny_model

from blockrag.attention.assemble import assemble, has_kernel
from blockrag.attention.reference import reference_logits
from blockrag.models.answer_model import AnswerModel

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")]


def gpu_model(family: str = "llama", rope: str = "default", **changes) -> AnswerModel:
    model = tiny_model(family, rope=rope, **changes)
    return AnswerModel(model.network.cuda(), None, "gpu")


def tokens(n: int) -> list[int]:
    return torch.randint(3, 128, (n,), generator=torch.Generator().manual_seed(n)).tolist()


BLOCKS, FINAL = [tokens(n) for n in (1, 50, 300, 64, 700, 17)], tokens(20)


@pytest.mark.parametrize("rope", ROPE)
@pytest.mark.parametrize("family", FAMILIES)
def test_cached_logits_are_the_references(family, rope):
    model = gpu_model(family, rope)
    assert has_kernel(model.kv_storage(1))
    difference = cached_logits(model, tokens(7), BLOCKS, FINAL) - reference_logits(model, tokens(7), BLOCKS, FINAL)
    assert difference.abs().max() <= 1e-4


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 2**-7)])
def test_the_kernel_moves_keys_as_the_plain_path(dtype, tolerance):
    model = gpu_model()
    model.network.to(dtype)
    parts = encode_all(model, BLOCKS)
    before = [part.keys.clone() for part in parts]
    on_gpu = assemble(parts, model.rope, model.kv_storage(1200))
    on_cpu = [type(part)(part.keys.cpu(), part.values.cpu()) for part in parts]
    expected = assemble(on_cpu, model.rope, torch.empty_like(on_gpu.storage, device="cpu"))
    n = expected.n_tokens
    moved, wanted = on_gpu.storage[..., :n, :].cpu().float(), expected.storage[..., :n, :].float()
    assert on_gpu.n_tokens == n and (moved - wanted).abs().max() <= tolerance
    assert all(torch.equal(part.keys, kept) for part, kept in zip(parts, before, strict=True))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 5e-3)])
@pytest.mark.parametrize(
    "heads, kv_heads, dim, n_queries, n_before", [(32, 8, 128, 64, 5000), (32, 8, 128, 1, 777), (9, 3, 64, 16, 0)]
)
def test_split_attention_is_causal_attention(heads, kv_heads, dim, n_queries, n_before, dtype, tolerance):
    from blockrag.attention.cuda.attend import attend_split  # noqa: PLC0415

    generator = torch.Generator("cuda").manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype, generator=generator)  # noqa: E731
    query, n = draw(1, heads, n_queries, dim), n_before + n_queries
    keys, values = draw(1, kv_heads, n + 100, dim), draw(1, kv_heads, n + 100, dim)
    found = attend_split(query, keys, values, torch.tensor(n_before, device="cuda"), dim**-0.5, 16).double()
    k, v = (t[:, :, :n].repeat_interleave(heads // kv_heads, 1).double() for t in (keys, values))
    seen = torch.arange(n, device="cuda") <= n_before + torch.arange(n_queries, device="cuda")[:, None]
    weights = (query.double() @ k.transpose(2, 3) * dim**-0.5).masked_fill(~seen, float("-inf")).softmax(-1)
    expected = (weights @ v).transpose(1, 2)
    assert (found - expected).norm() / expected.norm() <= tolerance


def test_captured_graphs_prefill_and_decode_as_the_reference():
    from blockrag.attention.cuda.runner import NAME, GraphRunner  # noqa: PLC0415

    model = gpu_model()
    cache = assemble(encode_all(model, BLOCKS), model.rope, model.kv_storage(1400))
    expected = reference_logits(model, [], BLOCKS, [*FINAL, 5])
    model.network.set_attn_implementation(NAME)
    runner = GraphRunner(model, cache.storage)
    assert (runner.logits(FINAL, cache.n_tokens) - expected[-2]).abs().max() <= 1e-4
    assert (runner.logits([5], cache.n_tokens + len(FINAL)) - expected[-1]).abs().max() <= 1e-4
