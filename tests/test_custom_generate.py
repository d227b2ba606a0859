"""`model.generate(..., custom_generate=FOLDER, blocks=...)`: the reference's tokens, reuse, and what is refused."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from transformers import dynamic_module_utils

from blockrag.attention.format import BlockFormat
from blockrag.attention.reference import reference_logits
from blockrag.errors import UnsupportedModelError
from tests.tiny import VOCABULARY, tiny_model

FOLDER = str(Path(__file__).parent.parent / "examples" / "block_generate")


@pytest.fixture(autouse=True)
def modules(monkeypatch, tmp_path):
    """`transformers` copies the folder's module here."""
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))


def tokens(n: int, seed: int) -> list[int]:
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(seed)).tolist()


PREFIX, BLOCKS, FINAL = tokens(5, 1), [tokens(30, 2), tokens(7, 3), tokens(50, 4)], tokens(6, 5)
GREEDY = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}


def generated(network, blocks=BLOCKS, final=FINAL, **settings) -> list[int]:
    output = network.generate(
        torch.tensor([final]), custom_generate=FOLDER, trust_remote_code=True, blocks=blocks, **{**GREEDY, **settings}
    )
    assert output[0, : len(final)].tolist() == final
    return output[0, len(final) :].tolist()


def expected(model, prefix, blocks, final, n=12) -> list[int]:
    found: list[int] = []
    for _ in range(n):
        found.append(int(reference_logits(model, prefix, blocks, [*final, *found])[-1].argmax()))
    return found


@pytest.mark.parametrize(
    "family, implementation",
    [
        ("llama", "sdpa"),
        ("llama", "eager"),
        ("qwen3", "sdpa"),
        ("gemma2", "eager"),
        ("gemma3_text", "sdpa"),
        ("mixtral", "sdpa"),
    ],
)
def test_tokens_are_those_of_the_reference(family, implementation):
    model = tiny_model(family)
    wanted = expected(model, PREFIX, BLOCKS, FINAL)
    network = tiny_model(family).network
    network.set_attn_implementation(implementation)
    assert generated(network, prefix=PREFIX) == wanted


def test_sinks_precede_every_block():
    wanted = expected(tiny_model(block_format=BlockFormat(sink_ids=(5, 6))), [], BLOCKS, FINAL)
    assert generated(tiny_model().network, sinks=(5, 6)) == wanted


def test_one_block_is_the_models_own_generate_and_none_too():
    network = tiny_model().network
    own = network.generate(torch.tensor([BLOCKS[0] + FINAL]), **GREEDY)[0, len(BLOCKS[0]) + len(FINAL) :].tolist()
    assert generated(network, [BLOCKS[0]]) == own == generated(network, [], BLOCKS[0] + FINAL)


def test_blocks_are_computed_once_and_again_when_weights_change():
    network, passes = tiny_model().network, []
    network.model.register_forward_pre_hook(lambda module, args, kwargs: passes.append(kwargs), with_kwargs=True)

    def n_encoded(blocks) -> int:
        passes.clear()
        generated(network, blocks)
        return sum(kwargs.get("inputs_embeds") is not None for kwargs in passes)

    assert n_encoded(BLOCKS) > 0 and n_encoded(BLOCKS[::-1]) == 0
    before = generated(network)
    with torch.no_grad():
        network.model.layers[0].self_attn.k_proj.weight.mul_(-1)
    assert n_encoded(BLOCKS) > 0 and generated(network) != before
    assert len(network.model.rotary_emb._forward_hooks) == 1


def test_a_network_is_freed_with_its_kv():
    network = tiny_model().network
    generated(network)
    seen = weakref.ref(network)
    del network
    gc.collect()
    assert seen() is None


def test_what_cannot_work_is_refused():
    network = tiny_model().network
    with pytest.raises(ValueError, match="one sequence without padding"):
        generated(network, attention_mask=torch.tensor([[0, 1, 1, 1, 1, 1]]))
    with pytest.raises(ValueError, match="context has 4096"):
        generated(network, [tokens(4095, 9)])
    network.config.attn_logit_softcapping = 5.0
    with torch.no_grad():
        network.lm_head.weight.mul_(1)  # so that it is looked at again
    with pytest.raises(UnsupportedModelError, match="softcap"):
        generated(network)
