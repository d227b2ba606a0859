"""Blocks that a CPU reads where they lie: the reference's logits, nothing joined before decoding, nothing written."""

import pytest
import torch

from blockrag.attention import assemble
from blockrag.attention.encode import encode_prefix
from blockrag.attention.format import BlockFormat
from blockrag.attention.inplace import pays
from blockrag.attention.reference import reference_logits
from blockrag.attention.runner import PlainRunner
from blockrag.models.answer_model import AnswerModel
from tests.paths import encode_all
from tests.tiny import EXPERTS, FAMILIES, OTHER_FAMILIES, ROPE, VOCABULARY, tiny_model

TOLERANCE = 1e-4


def tokens(n: int) -> list[int]:
    return torch.randint(3, VOCABULARY, (n,), generator=torch.Generator().manual_seed(n)).tolist()


PREFIX, BLOCKS, FINAL = tokens(7), [tokens(n) for n in (1, 40, 300, 33)], tokens(4)


def prepared(model: AnswerModel):
    prefix = encode_prefix(model, PREFIX)
    return [prefix, *encode_all(model, BLOCKS, prefix)]


def assert_exact(model: AnswerModel) -> None:
    """In place first, joined from the second pass on; both against one dense pass."""
    parts = prepared(model)
    assert pays(parts, n_rows=len(FINAL) * 2)
    before = [(part.keys.clone(), part.values.clone()) for part in parts]
    with PlainRunner(model).join(parts, 10) as joined:
        found = torch.stack([joined.logits(FINAL), joined.logits([5]), joined.logits([6])])
    expected = reference_logits(model, PREFIX, BLOCKS, [*FINAL, 5, 6])[-3:]
    assert (found - expected).abs().max() <= TOLERANCE
    for part, (keys, values) in zip(parts, before, strict=True):
        assert torch.equal(part.keys, keys) and torch.equal(part.values, values), "rule 5"


@pytest.mark.parametrize("family", [*FAMILIES, *OTHER_FAMILIES, *EXPERTS])
def test_every_family_is_exact(family):
    assert_exact(tiny_model(family))


@pytest.mark.parametrize("head_dim", [80, 96, 192])
def test_heads_of_any_size_are_exact(head_dim):
    assert_exact(tiny_model(head_dim=head_dim, initializer_range=0.1))


@pytest.mark.parametrize("rope", ROPE)
@pytest.mark.parametrize("block_format", [BlockFormat(sink_ids=(5, 6)), BlockFormat(prefix_visible=True)])
def test_rope_types_and_formats_are_exact(rope, block_format):
    assert_exact(tiny_model(rope=rope, block_format=block_format))


def test_nothing_is_joined_before_it_is_decoded(monkeypatch):
    model, filled = tiny_model(), []
    original = assemble._Joining.fill
    monkeypatch.setattr(assemble._Joining, "fill", lambda self, layer: (filled.append(layer), original(self, layer)))
    with PlainRunner(model).join(prepared(model), 10) as joined:
        joined.logits(FINAL)
        assert filled == []
        joined.logits([5])
        assert filled == [0, 1]
        joined.logits([6])
    assert filled == [0, 1], "once"


def test_many_queries_over_short_blocks_are_joined_first():
    parts = prepared(tiny_model())
    n_tokens = sum(part.n_tokens for part in parts)
    assert pays(parts, n_tokens // len(parts)) and not pays(parts, n_tokens // len(parts) + 1)
    assert not pays([], 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("sizes", [(1, 40, 300, 33), (2, 3, 2), ()], ids=["in place", "joined first", "prefix alone"])
def test_in_bfloat16_every_path_is_as_near_float32_as_one_dense_pass(sizes):
    exact, model = tiny_model("qwen2"), tiny_model("qwen2")
    model.network.bfloat16()
    exact.network.load_state_dict(model.network.state_dict())
    blocks, final = [tokens(n) for n in sizes], tokens(9)
    prefix = encode_prefix(model, PREFIX)
    with PlainRunner(model).join([prefix, *encode_all(model, blocks, prefix)], 20) as joined:
        found = torch.stack([joined.logits(final), joined.logits([5]), joined.logits([6, 7, 8])]).float()
    expected, dense = (reference_logits(m, PREFIX, blocks, [*final, 5, 6, 7, 8])[[8, 9, 12]] for m in (exact, model))
    assert (found - expected).std() < 1.5 * (dense.float() - expected).std() < 0.1 * expected.std()


@pytest.mark.weights
def test_exact_with_the_real_smollm2(smollm2, smollm2_path):
    model = smollm2
    ids = model.tokenizer((smollm2_path / "tokenizer.json").read_text()[:2000]).input_ids
    blocks = [ids[:1], ids[1:60], ids[60:230], ids[230:400]]
    final = model.tokenizer("Question: what is this?<|im_end|>\n<|im_start|>assistant\n").input_ids
    parts = encode_all(model, blocks)
    assert pays(parts, 3 * len(final))
    with PlainRunner(model).join(parts, len(final)) as joined:
        found = joined.logits(final)
    assert (found - reference_logits(model, [], blocks, final)[-1]).abs().max() <= TOLERANCE
