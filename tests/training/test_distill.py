"""Block distillation: layouts against the reference mask, losses worked out by hand, training steps, a small run."""

import argparse
import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers.models.llama import modeling_llama

from blockrag.attention.format import BlockFormat
from blockrag.attention.mask import block_mask, strict_isolation
from blockrag.attention.reference import reference_logits
from tests.tiny import tiny_model, tiny_tokenizer
from training.distill import log, train
from training.distill.attention import Varlen, count_pairs, flash_single, flash_varlen
from training.distill.config import DataConfig, DistillConfig
from training.distill.examples import Example, Examples
from training.distill.fused import fuse_gates, fuse_norms, fuse_rotation, silu_gate
from training.distill.layout import ANSWER, CONTEXT, QUESTION, BlockRules, block_layout, dense_mask, full_layout
from training.distill.lora import UnmergedLinear
from training.distill.loss import (
    cross_entropy_in_chunks,
    damage_weights,
    divergence,
    divergence_in_chunks,
    hidden_distance,
    sum_over_examples,
)
from training.distill.model import TrainableModel
from training.distill.objectives import Losses, losses, make_batch
from training.distill.processes import Processes
from training.distill.train import Run, draw, fit, learning_rate, micro_batches

PREFIX = np.array([5, 6, 7], np.int32)
FORMATS = {
    "no sinks": {"sinks": "none", "n_sinks": 0},
    "literal": {"sinks": "literal", "n_sinks": 2},
    "learned": {"sinks": "learned", "n_sinks": 3},
    "prefix seen": {"sinks": "literal", "n_sinks": 1, "prefix_visible": True},
}


def make_example(seed: int = 0, n_blocks: int = 3, n_turns: int = 1) -> Example:
    draws = np.random.default_rng(seed)

    def ids(n):
        return draws.integers(3, 300, n).astype(np.int32)

    turns = [(ids(4), ids(3)) for _ in range(n_turns)]
    return Example([ids(n) for n in draws.integers(3, 9, n_blocks)], turns)


def make_model(config: DistillConfig, **settings) -> TrainableModel:
    base = tiny_model(tokenizer=tiny_tokenizer(), **settings)
    return TrainableModel(base, config, block_mode=config.objective != "teacher")


def disturb(model: TrainableModel) -> None:
    """Set the low-rank changes to random values, as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.lora.layers.values():
            layer.up.normal_(0, 0.05, generator=generator)


def losses_of(model: TrainableModel, examples: list[Example], config: DistillConfig) -> Losses:
    """Losses of one micro-batch without open blocks."""
    none_open = [[False] * len(example.blocks) for example in examples]
    return losses(model, make_batch(PREFIX, examples, none_open, model.rules, config), config)


# layouts


def test_block_layout_has_the_mask_of_the_oracle():
    example = make_example()
    layout = block_layout(PREFIX, [example], [[False] * 3], BlockRules(n_sinks=2))
    lengths = [3, *(2 + len(block) for block in example.blocks), 7]
    assert torch.equal(dense_mask(layout), block_mask(lengths))
    assert torch.equal(layout.positions, torch.arange(sum(lengths)))


def test_full_layout_is_causal_and_examples_do_not_see_each_other():
    examples = [make_example(0), make_example(1)]
    layout = full_layout(PREFIX, examples, [[False] * 3] * 2)
    n = [3 + example.n_tokens for example in examples]
    expected = torch.block_diag(*(torch.ones(k, k) for k in n)).tril().bool()
    assert torch.equal(dense_mask(layout), expected)
    assert layout.positions.tolist() == [*range(n[0]), *range(n[1])]


def test_dropout_opens_its_block_and_no_other():
    example = make_example()
    rules = BlockRules(n_sinks=1)
    plain = dense_mask(block_layout(PREFIX, [example], [[False, False, False]], rules))
    opened = dense_mask(block_layout(PREFIX, [example], [[False, True, False]], rules))
    start = 3 + 1 + len(example.blocks[0])
    rows = slice(start, start + 1 + len(example.blocks[1]))
    assert torch.equal(opened[rows], torch.ones_like(opened[rows]).tril(start))
    opened[rows] = plain[rows]
    assert torch.equal(opened, plain)


def test_copies_of_the_prefix_are_seen_by_their_block_alone():
    example = make_example(n_blocks=2)
    layout = block_layout(PREFIX, [example], [[False, False]], BlockRules(n_sinks=1, prefix_visible=True))
    lengths = [3, 3, 1 + len(example.blocks[0]), 3, 1 + len(example.blocks[1]), 7]
    sees = strict_isolation(len(lengths))
    for copied in (1, 3):
        sees[copied + 1, copied], sees[-1, copied] = True, False
    assert torch.equal(dense_mask(layout), block_mask(lengths, sees))


def test_link_tokens_see_all_before_them_and_no_block_sees_them():
    example = make_example(n_blocks=2)
    layout = block_layout(PREFIX, [example], [[False] * 2], BlockRules(n_sinks=1, n_links=2))
    seen, links = dense_mask(layout), np.flatnonzero(layout.sinks.numpy() >= 1)
    assert layout.sinks[links].tolist() == [1, 2, 1, 2], "links are numbered behind the sinks"
    for row in links:
        assert seen[row, : row + 1].all() and not seen[row, row + 1 :].any()
    first, last = links[1] + 1, links[2]  # the second block, its sink included
    assert not seen[first:last, :first].any(), "a block sees nothing before it"
    assert seen[-1].all(), "the final block sees everything"
    assert torch.equal(layout.positions, torch.arange(layout.n_tokens))


def test_link_tokens_have_a_gradient():
    config = DistillConfig(n_links=2, dropout=0.0, rank=2, hidden_weight=1.0)
    model = make_model(config)
    batch = make_batch(PREFIX, [make_example()], [[False] * 3], model.rules, config)
    found = losses(model, batch, config).loss
    found.sum().backward()
    assert model.parameters()["links"].grad.abs().sum() > 0


def test_both_modes_predict_the_same_tokens():
    examples = [make_example(0, n_turns=2), make_example(1)]
    opened = [[True, False, False], [False, False, True]]
    full = full_layout(PREFIX, examples, opened)
    blocks = block_layout(PREFIX, examples, opened, BlockRules(n_sinks=2))
    for name in ("targets", "kinds", "examples", "weights"):
        assert torch.equal(getattr(full, name), getattr(blocks, name))
    for layout in (full, blocks):
        assert torch.equal(layout.ids[layout.rows + 1], layout.targets)
    answers = full.targets[(full.kinds == ANSWER) & (full.examples == 0)]
    assert answers.tolist() == [token for _, answer in examples[0].turns for token in answer]
    assert (full.kinds == CONTEXT).sum() == len(examples[0].blocks[0]) + len(examples[1].blocks[2]) - 2
    assert (full.kinds == QUESTION).sum() == 3 + 4 + 3
    assert torch.equal(full.weights[full.kinds != ANSWER], torch.ones(int((full.kinds != ANSWER).sum())))


def test_a_short_answer_counts_as_much_as_a_long_one():
    turns = [(np.array([1, 2], np.int32), np.array(answer, np.int32)) for answer in ([3], [4, 5, 6, 7])]
    layout = full_layout(PREFIX, [Example([np.array([8, 9], np.int32)], turns)], [[False]])
    losses = (layout.targets == 3).float()
    found = sum_over_examples(losses, layout.weights, layout.kinds, layout.examples, 1)
    assert found[ANSWER] == pytest.approx(0.5)


# attention


@pytest.mark.parametrize("opened", [[False] * 3, [False, True, False], [True, True, True]])
@pytest.mark.parametrize("prefix_visible", [False, True])
def test_attention_by_parts_equals_the_dense_mask_with_gradients(opened, prefix_visible):
    examples = [make_example(0), make_example(1)]
    layout = block_layout(PREFIX, examples, [opened, opened[::-1]], BlockRules(2, prefix_visible))
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, heads, layout.n_tokens, 8, generator=generator, requires_grad=True) for heads in (4, 2, 2)
    )
    found = Varlen(layout, torch.device("cpu"), attend_one_by_one)(None, query, key, value, 0.3)
    expected = dense_attention(query, key, value, dense_mask(layout), 0.3)
    assert torch.allclose(found, expected, atol=1e-6)
    direction = torch.randn(found.shape, generator=generator)
    gradients = (torch.autograd.grad((o * direction).sum(), (query, key, value)) for o in (found, expected))
    for ours, right in zip(*gradients, strict=True):
        assert torch.allclose(ours, right, atol=1e-5)
    assert count_pairs(layout) == int(dense_mask(layout).sum())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
@pytest.mark.parametrize("opened", [[False] * 3, [False, True, False], None])
def test_flash_attention_and_its_gradient_are_as_exact_as_the_dense_mask_in_16_bits(opened):
    """The error against float32 is compared with that of the dense mask in bfloat16. None: a single sequence."""
    if opened is None:
        layout = full_layout(PREFIX, [make_example(0)], [[False] * 3])
    else:
        layout = block_layout(PREFIX, [make_example(0), make_example(1)], [opened, opened[::-1]], BlockRules(2, True))
    device, seen = torch.device("cuda"), dense_mask(layout).cuda()
    generator = torch.Generator(device).manual_seed(0)
    drawn = [torch.randn(1, heads, layout.n_tokens, 64, generator=generator, device=device) for heads in (9, 3, 3)]
    direction = torch.randn(1, layout.n_tokens, 9, 64, generator=generator, device=device)

    def run(dtype, attend):
        inputs = [each.bfloat16().to(dtype).requires_grad_() for each in drawn]
        output = attend(*inputs)
        return [output, *torch.autograd.grad((output.float() * direction).sum(), inputs)]

    exact, rounded = (
        run(dtype, lambda q, k, v: dense_attention(q, k, v, seen, 0.125)) for dtype in (torch.float32, torch.bfloat16)
    )
    found = run(torch.bfloat16, lambda q, k, v: Varlen(layout, device, flash_varlen)(None, q, k, v, 0.125))
    for ours, theirs, right in zip(found, rounded, exact, strict=True):
        assert (ours - right).norm() <= 1.5 * (theirs - right).norm()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")
def test_a_compiled_gate_and_its_gradient_are_as_exact_as_the_plain_steps_in_16_bits():
    gate, up, direction = torch.randn(3, 50, 96, device="cuda").bfloat16()

    def run(dtype, multiply):
        inputs = [each.to(dtype).requires_grad_() for each in (gate, up)]
        output = multiply(*inputs)
        return [output, *torch.autograd.grad((output.float() * direction).sum(), inputs)]

    exact, rounded = (run(dtype, silu_gate) for dtype in (torch.float32, torch.bfloat16))
    found = run(torch.bfloat16, torch.compile(silu_gate, dynamic=True))
    for ours, theirs, right in zip(found, rounded, exact, strict=True):
        assert (ours - right).norm() <= 1.1 * (theirs - right).norm()


def attend_one_by_one(q, k, v, query_ends, key_ends, max_queries, max_keys, scale):
    """FlashAttention over several sequences, with the causal mask aligned bottom-right."""
    outputs = []
    for i in range(len(query_ends) - 1):
        queries, keys = slice(*query_ends[i : i + 2].tolist()), slice(*key_ends[i : i + 2].tolist())
        n_q, n_k = queries.stop - queries.start, keys.stop - keys.start
        assert n_q <= max_queries and n_k <= max_keys
        seen = torch.ones(n_q, n_k, dtype=torch.bool).tril(n_k - n_q)
        outputs.append(dense_attention(*(t.transpose(0, 1)[None] for t in (q[queries], k[keys], v[keys])), seen, scale))
    return torch.cat(outputs, 1)[0]


def dense_attention(query, key, value, seen, scale):
    group = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(group, 1) for t in (key, value))
    scores = (query @ key.mT * scale).masked_fill(~seen, -torch.inf)
    return (scores.softmax(-1) @ value).transpose(1, 2)


# the network


@pytest.mark.parametrize("name", FORMATS)
def test_training_in_block_mode_gives_the_logits_of_the_reference(name):
    config = DistillConfig(rank=2, **FORMATS[name])
    model = make_model(config)
    disturb(model)
    example = make_example()
    layout = block_layout(PREFIX, [example], [[False] * 3], model.rules)
    with torch.no_grad():
        found = model.hidden(layout) @ model.head.T
    sinks = None if model.sinks is None else model.sinks.detach()
    block_format = BlockFormat(() if sinks is not None else model.sink_ids, sinks, model.rules.prefix_visible)
    base = replace(model.base, format=block_format)
    final = [token for turn in example.turns for ids in turn for token in ids]
    expected = reference_logits(base, PREFIX.tolist(), [block.tolist() for block in example.blocks], final)
    by_row = torch.argsort(layout.rows)
    assert torch.allclose(found[by_row], expected[:-1], atol=1e-4)


@pytest.mark.parametrize("kv_heads", [1, 4])
def test_one_sequence_alone_attends_causally(kv_heads):
    q, k, v = torch.randn(9, 4, 8), torch.randn(9, kv_heads, 8), torch.randn(9, kv_heads, 8)
    found = flash_single(q, k, v, 0.3)
    k, v = (t.repeat_interleave(4 // kv_heads, 1) for t in (k, v))
    weights = (torch.einsum("qhd,khd->hqk", q, k) * 0.3).masked_fill(~torch.ones(9, 9).tril().bool(), -torch.inf)
    assert torch.allclose(found, torch.einsum("hqk,khd->qhd", weights.softmax(-1), v), atol=1e-5)


@pytest.mark.parametrize("merged", [True, False])
def test_without_its_changes_the_network_is_the_teacher_bit_for_bit(merged):
    example = make_example()
    layout = full_layout(PREFIX, [example], [[False] * 3])
    untouched = tiny_model(tokenizer=tiny_tokenizer())
    embeddings = untouched.embed(layout.ids)[None]
    with torch.no_grad():
        expected = untouched.network.model(inputs_embeds=embeddings, position_ids=layout.positions[None])
    model = make_model(DistillConfig(rank=2, merged=merged))
    disturb(model)
    found = model.hidden(layout, changed=False)
    assert not found.requires_grad
    mask_free = expected.last_hidden_state[0, layout.rows]
    assert torch.allclose(found, mask_free, atol=1e-5)  # the one is masked, the other causal
    fresh = make_model(DistillConfig(rank=2, merged=merged))
    assert torch.equal(found, fresh.hidden(layout, changed=False))
    assert not torch.allclose(model.hidden(layout), found, atol=1e-3)


@pytest.mark.parametrize(("family", "n"), [("llama", 5), ("qwen3", 9), ("gemma", 0), ("cohere", 0)])
def test_fused_norms_are_the_networks_own_with_their_gradients(family, n):
    network = tiny_model(family).network
    ids, fused = torch.arange(3, 20)[None], copy.deepcopy(network)
    assert fuse_norms(fused) == n
    (own, found) = (each(inputs_embeds=each.get_input_embeddings()(ids)).logits for each in (network, fused))
    assert torch.allclose(found, own, atol=1e-5)
    own.square().sum().backward()
    found.square().sum().backward()
    for ours, right in zip(fused.parameters(), network.parameters(), strict=True):
        assert torch.allclose(ours.grad, right.grad, atol=1e-3)


@pytest.mark.parametrize(("family", "n"), [("llama", 2), ("qwen3", 2), ("gemma", 0), ("phi3", 0)])
def test_gates_are_replaced_where_they_are_those_of_silu(family, n):
    """Gemma uses GELU; Phi-3 has both halves in one product."""
    network, ids = tiny_model(family).network, torch.arange(3, 20)[None]
    own, asked = network(ids).logits, []

    def gate(*halves):
        asked.append(halves)
        return silu_gate(*halves)

    assert fuse_gates(network, gate) == n
    asked.clear()
    assert torch.allclose(network(ids).logits, own, atol=1e-5) and len(asked) == n


def test_a_rotations_gradient_is_that_of_the_plain_steps(monkeypatch):
    rotate = modeling_llama.apply_rotary_pos_emb
    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", rotate)  # put back afterwards
    network, ids = tiny_model().network, torch.arange(3, 20)[None]
    plain = torch.autograd.grad(network(ids).logits.square().sum(), list(network.parameters()))
    fuse_rotation(network, torch.no_grad(rotate))
    assert modeling_llama.apply_rotary_pos_emb is not rotate
    fused = torch.autograd.grad(network(ids).logits.square().sum(), list(network.parameters()))
    for ours, right in zip(fused, plain, strict=True):
        assert torch.allclose(ours, right, atol=1e-4)


@pytest.mark.parametrize("bias", [None, torch.ones(5, dtype=torch.double)])
def test_a_change_beside_a_layer_has_the_gradient_of_the_plain_products(bias):
    weight, down, up = (torch.randn(*shape, dtype=torch.double) for shape in ((5, 7), (2, 7), (5, 2)))
    inputs = [t.requires_grad_() for t in (torch.randn(3, 7, dtype=torch.double), down, up)]

    def beside(x, down, up):
        return UnmergedLinear.apply(x, weight, bias, down, up, 0.5)

    expected = torch.nn.functional.linear(inputs[0], weight + 0.5 * up @ down, bias)
    assert torch.allclose(beside(*inputs), expected)
    assert torch.autograd.gradcheck(beside, inputs)


@pytest.mark.parametrize("merged", [True, False])
def test_activations_computed_twice_change_no_gradient(merged):
    """For any share of recomputed layers."""
    layout, found = full_layout(PREFIX, [make_example()], [[False] * 3]), []
    for share in (0.0, 0.5, 1.0):
        model = make_model(DistillConfig(rank=2, merged=merged, checkpointing=share), num_hidden_layers=4)
        assert sum(layer.gradient_checkpointing for layer in model.base.network.model.layers) == 4 * share
        disturb(model)
        loss = model.hidden(layout).square().sum()
        found.append(torch.autograd.grad(loss, list(model.parameters().values())))
    for gradients in found[1:]:
        assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(gradients, found[0], strict=True))


def test_merged_and_unmerged_changes_are_the_same_network():
    layout = full_layout(PREFIX, [make_example()], [[False] * 3])
    states = []
    for merged in (True, False):
        model = make_model(DistillConfig(rank=2, merged=merged))
        disturb(model)
        states.append(model.hidden(layout).detach())
    assert torch.allclose(*states, atol=1e-4)


# losses


def test_divergence_is_0_on_equal_logits_and_right_on_rows_by_hand():
    logits = torch.randn(5, 11)
    for kind in ("forward", "reverse", "jsd"):
        assert torch.allclose(divergence(logits, logits.clone(), kind), torch.zeros(5), atol=1e-6)
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.75, 0.25]]).log()
    forward = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    reverse = 0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(0.5 / 0.25)
    middle = np.array([0.625, 0.375])
    jsd = sum(0.5 * (p * np.log(p / middle)).sum() for p in (np.array([0.5, 0.5]), np.array([0.75, 0.25])))
    for kind, expected in (("forward", forward), ("reverse", reverse), ("jsd", jsd)):
        assert float(divergence(student, teacher, kind)) == pytest.approx(expected, abs=1e-6)
    assert torch.allclose(divergence(student, teacher, "jsd"), divergence(teacher, student, "jsd"))


def test_chunks_change_neither_loss_nor_gradient():
    head = torch.randn(13, 4)
    teacher, targets = torch.randn(7, 4), torch.arange(7)
    gradients = []
    for chunk in (2, 100):
        hidden = torch.randn(7, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
        far = divergence_in_chunks(hidden, teacher, head, chunk, "forward", 2.0)
        nll = cross_entropy_in_chunks(hidden, targets, head, chunk)
        (far.sum() + nll.sum()).backward()
        gradients.append((far.detach(), nll.detach(), hidden.grad))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    plain = torch.nn.functional.cross_entropy(hidden @ head.T, targets, reduction="none")
    assert torch.allclose(gradients[0][1], plain, atol=1e-5)


def test_weights_follow_the_damage_and_pass_no_gradient():
    damage = torch.tensor([1.0, 3.0, 0.0, 0.0], requires_grad=True)
    weights = damage_weights(damage, torch.tensor([0, 0, 1, 1]), 2, floor=0.5)
    assert weights.tolist() == [1.0, 2.0, 0.5, 0.5] and not weights.requires_grad


def test_given_answers_count_beside_the_divergence_as_they_do_alone():
    plain = DistillConfig(sinks="none", n_sinks=0, dropout=0)
    model, examples = make_model(plain), [make_example(0), make_example(1, n_blocks=2)]
    disturb(model)

    def answers(config):
        return losses_of(model, examples, config).loss[ANSWER]

    both, given = answers(replace(plain, gold_weight=0.5)), answers(replace(plain, objective="finetune"))
    assert given > 0 and torch.allclose(both, answers(plain) + 0.5 * given, atol=1e-5)


def test_distance_of_states_is_right_by_hand_and_0_on_equal_ones():
    teacher = torch.tensor([[[3.0, 4.0], [0.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]]])  # two layers, two tokens
    student = torch.tensor([[[3.0, 1.0], [0.0, 2.0]], [[1.0, 2.0], [0.0, 0.5]]])
    assert hidden_distance(student, teacher).tolist() == pytest.approx([(9 / 25 + 4 / 1) / 2, (0 + 0.25) / 2])
    assert hidden_distance(teacher, teacher.clone()).tolist() == [0.0, 0.0]


def test_states_of_every_layer_end_in_the_hidden_states():
    model = make_model(DistillConfig(rank=2))
    disturb(model)
    layout = block_layout(PREFIX, [make_example()], [[False] * 3], model.rules)
    states = model.states(layout, every_layer=True)
    assert states.shape == (model.base.n_layers, len(layout.rows), model.head.shape[1])
    assert torch.equal(states[-1], model.hidden(layout)) and not torch.allclose(states[0], states[-1], atol=1e-3)


def test_hidden_states_count_beside_the_divergence():
    plain = DistillConfig(dropout=0)
    model, examples = make_model(plain), [make_example(0), make_example(1, n_blocks=2)]
    disturb(model)

    without, beside = (losses_of(model, examples, replace(plain, hidden_weight=weight)) for weight in (0.0, 2.0))
    assert beside.logged["distance"][ANSWER] > 0 and torch.equal(
        beside.logged["divergence"], without.logged["divergence"]
    )
    expected = without.loss[ANSWER] + 2 * beside.logged["distance"][ANSWER]
    assert torch.allclose(beside.loss[ANSWER], expected, atol=1e-4)


def test_agreement_draws_both_modes_together():
    plain = DistillConfig(objective="finetune-both")
    model, examples = make_model(plain), [make_example(0), make_example(1, n_blocks=2)]
    disturb(model)

    agreeing = replace(plain, agreement=0.5)
    without, beside = (losses_of(model, examples, config) for config in (plain, agreeing))
    other_teacher = replace(plain, objective="distill", dropout=0)  # the untouched network
    distilled = losses_of(model, examples, other_teacher)
    assert beside.logged["divergence"][ANSWER] > 0 and not distilled.logged["divergence"].equal(
        beside.logged["divergence"]
    )
    expected = without.loss[ANSWER] + 0.5 * beside.logged["divergence"][ANSWER]
    assert torch.allclose(beside.loss[ANSWER], expected, atol=1e-5)
    lone = [make_example(0, n_blocks=0)]  # nothing but a prefix and a question: both modes are one
    assert float(losses_of(model, lone, agreeing).logged["divergence"][ANSWER]) < 1e-6


def test_distillation_in_both_modes_moves_full_mode_no_further_than_asked():
    config = DistillConfig(objective="distill-both", dropout=0)
    model, examples = make_model(config), [make_example(0), make_example(1, n_blocks=2)]
    untouched = losses_of(model, examples, config)
    assert float(untouched.logged["kept"][ANSWER]) < 1e-6 < float(untouched.logged["divergence"][ANSWER])
    disturb(model)
    found = losses_of(model, examples, config)
    student = losses_of(model, examples, replace(config, objective="distill"))
    expected = (found.logged["kept"] + student.logged["divergence"]) / 2
    assert float(found.logged["kept"][ANSWER]) > 1e-4 and torch.allclose(found.loss.detach(), expected, atol=1e-5)
    agreeing = losses_of(model, examples, replace(config, agreement=0.5))
    between = losses_of(model, examples, replace(config, objective="finetune-both", agreement=1.0))
    assert torch.allclose(agreeing.logged["divergence"][ANSWER], between.logged["divergence"][ANSWER], atol=1e-5)
    assert torch.allclose(agreeing.loss.detach(), expected + 0.5 * agreeing.logged["divergence"], atol=1e-5)


def test_an_example_counts_as_a_whole_by_kind():
    values, weights = torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([1.0, 3.0, 1.0, 1.0])
    kinds, examples = torch.tensor([ANSWER, ANSWER, ANSWER, QUESTION]), torch.tensor([0, 0, 1, 1])
    assert sum_over_examples(values, weights, kinds, examples, 2).tolist() == [2.5 + 5.0, 7.0, 0.0]


# steps


def make_run(folder, n_steps=4, **changes) -> Run:
    config = DistillConfig(**{"steps": n_steps, "examples": 4, "rank": 4, "warmup": 1, "chunk": 64, **changes})
    items = [make_example(seed, 3) for seed in range(12)]
    return Run(make_model(config), Examples(PREFIX, items, {}), config, Processes("cpu"), folder)


@pytest.mark.parametrize("objective", ["distill", "distill-both", "finetune", "finetune-both", "teacher"])
def test_accumulation_changes_no_gradient(tmp_path, objective):
    gradients = []
    for pack_tokens in (1, 80, 10_000):
        run = make_run(tmp_path, objective=objective, pack_tokens=pack_tokens, lr=1e-2)
        disturb(run.model)
        batches = micro_batches(run, 0)
        for batch in batches:
            found = losses(run.model, batch, run.config)
            (found.loss.sum() / run.config.examples).backward()
        gradients.append((len(batches), {n: p.grad for n, p in run.model.parameters().items()}))
    assert [n for n, _ in gradients][0] == 4 and gradients[-1][0] == 1
    for _, other in gradients[1:]:
        for name, gradient in gradients[0][1].items():
            if gradient is not None:
                assert torch.allclose(gradient, other[name], atol=1e-5), name


def test_blocks_come_in_another_order_and_from_other_examples_each_time():
    examples = Examples(np.arange(3), [make_example(seed) for seed in range(4)], {})

    def drawn(**settings) -> list[tuple[tuple, list[tuple]]]:
        """Turns and blocks of 80 examples, comparable."""
        config = DistillConfig(examples=2, **settings)
        found = [example for step in range(40) for example, _ in draw(examples, step, config)]
        return [(tuple(tuple(map(tuple, turn)) for turn in e.turns), [tuple(b) for b in e.blocks]) for e in found]

    plain, shuffled, exchanged = drawn(), drawn(shuffle=1.0), drawn(exchange=0.4)
    known = {block for _, blocks in plain for block in blocks}
    for (turns, before), (turns_1, moved), (turns_2, mixed) in zip(plain, shuffled, exchanged, strict=True):
        assert turns == turns_1 == turns_2
        assert sorted(moved) == sorted(before) and len(mixed) == len(before) and known.issuperset(mixed)
    assert len({(turns, *blocks) for turns, blocks in shuffled}) > 2 * len(examples.items), "each time another order"
    foreign = [block not in before for (_, before), (_, mixed) in zip(plain, exchanged, strict=True) for block in mixed]
    assert 0.1 < sum(foreign) / len(foreign) < 0.5
    assert drawn(exchange=0.4) == exchanged, "a step's examples depend on seed and step alone"
    with pytest.raises(ValueError, match="belong to distillation"):
        DistillConfig(objective="finetune", shuffle=0.5)


def test_every_example_comes_once_before_any_comes_again(tmp_path):
    run = make_run(tmp_path, examples=5)
    drawn = [id(example) for step in range(5) for example, _ in draw(run.examples, step, run.config)]
    assert len(set(drawn[:12])) == 12 and len(set(drawn[12:24])) == 12


def test_dropout_of_0_opens_no_block_and_of_1_every_block(tmp_path):
    for share in (0.0, 1.0):
        run = make_run(tmp_path, dropout=share)
        assert all(is_open == bool(share) for _, flags in draw(run.examples, 0, run.config) for is_open in flags)


def test_the_rate_rises_and_falls():
    config = DistillConfig(steps=100, warmup=10, lr=1.0, lr_end=0.1)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates[-1] < 0.11
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, monkeypatch):
    whole = make_run(tmp_path / "whole", 20, save_every=10)
    fit(whole)
    stopped = make_run(tmp_path / "stopped", 20, save_every=10)

    def stop(*args):
        save(*args)
        raise KeyboardInterrupt

    save = train.save_checkpoint
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(train, "save_checkpoint", stop)
        fit(stopped)
    again = make_run(tmp_path / "stopped", 20, save_every=10)
    fit(again, resume=True)
    logs = [[json.loads(line) for line in (run.out / "log.jsonl").read_text().splitlines()] for run in (whole, again)]
    assert [[line["step"], line["loss"]] for line in logs[0]] == [[line["step"], line["loss"]] for line in logs[1]]
    for name, parameter in whole.model.parameters().items():
        assert torch.equal(parameter, again.model.parameters()[name])


def test_a_checkpoint_is_safetensors_and_json(tmp_path):
    fit(make_run(tmp_path, 2, sinks="learned"))
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["state.safetensors", "step.json"]
    assert "parameter.sinks" in load_file(tmp_path / "checkpoint" / "state.safetensors")


def test_training_lowers_the_divergence(tmp_path):
    run = make_run(tmp_path, 80, lr=1e-2, dropout=0.3, token_weights="damage")
    before = copy.deepcopy(run.model.head)
    fit(run)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["divergence_answer"] < 0.7 * lines[0]["divergence_answer"]
    assert lines[-1]["damage_answer"] > 0 and torch.equal(before, run.model.head)
    log.run(argparse.Namespace(runs=[tmp_path], out=tmp_path / "log.png"))
    assert (tmp_path / "log.png").read_bytes().startswith(b"\x89PNG")


# settings


@pytest.mark.parametrize(
    "wrong",
    [{"dropout": 1.5}, {"sinks": "some"}, {"divergence": "l2"}, {"rank": 0}, {"temperature": 0}, {"n_sinks": 99}],
)
def test_settings_out_of_range_are_refused_by_name(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DistillConfig(**wrong)


def test_data_settings_out_of_range_are_refused():
    with pytest.raises(ValueError, match="granularity"):
        DataConfig(granularity=(0.9, 0.1))
