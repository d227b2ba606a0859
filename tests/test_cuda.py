"""The CUDA path against the reference; runs where there is a GPU: ``pytest -m gpu``."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice

import pytest
import torch
from transformers.models.llama import modeling_llama

from blockrag.attention.assemble import assemble, has_kernel
from blockrag.attention.encode import encode_prefix
from blockrag.attention.format import BlockFormat
from blockrag.attention.reference import reference_logits
from blockrag.attention.rope import Rope
from blockrag.attention.runner import PlainRunner, make_runner
from blockrag.attention.varlen import has_packs
from blockrag.documents import Document
from blockrag.engine import Engine
from blockrag.errors import KVCorruptError
from blockrag.generate import Sampling, sampled
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.disk import DiskTier
from blockrag.kv.key import kv_identity
from blockrag.kv.memory import MemoryTier
from blockrag.kv.streaming import begin
from blockrag.kv.tiered import TieredKV
from blockrag.models.answer_model import AnswerModel
from blockrag.models.families import FAMILIES as TABLE
from tests.paths import cached_logits, encode_all
from tests.tiny import FAMILIES, OTHER_FAMILIES, ROPE, WordEmbedder, tiny_model, tiny_tokenizer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA here")]

if torch.cuda.is_available():
    from blockrag.attention.cuda.attend import attend_blocks, tiling_for
    from blockrag.attention.cuda.block_table import BlockTable
    from blockrag.attention.cuda.fused import fused
    from blockrag.attention.cuda.kernels import rotate_both
    from blockrag.attention.cuda.runner import GraphRunner


INTERLEAVED = tuple(family for family, ways in TABLE.items() if ways.interleaved)


def gpu_model(family: str = "llama", rope: str = "default", **changes) -> AnswerModel:
    model = tiny_model(family, rope=rope, **changes)
    return AnswerModel(model.network.cuda(), None, "gpu", model.format)


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
    wanted = torch.stack([torch.stack(layer.joined()) for layer in expected.layers], dim=1).float()
    moved = on_gpu.storage[..., :n, :].cpu().float()
    assert on_gpu.n_tokens == n and (moved - wanted).abs().max() <= tolerance
    assert all(torch.equal(part.keys, kept) for part, kept in zip(parts, before, strict=True))


def joined_logits(model: AnswerModel, parts, final: list[int], following: list[int]) -> torch.Tensor:
    """Logits of the last of `final` and of each following token, by the path that is chosen for the model."""
    with make_runner(model).join(parts, len(final) + len(following)) as joined:
        rows = [joined.logits(final).clone()]
        rows += [joined.logits([token]).clone() for token in following]
    return torch.stack(rows)


@pytest.mark.parametrize("rope", ROPE)
@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_prefill_and_decode_as_the_reference(family, rope):
    model = gpu_model(family, rope)
    parts = [encode_prefix(model, tokens(7)), *encode_all(model, BLOCKS)]
    before = [part.keys.clone() for part in parts]
    found = joined_logits(model, parts, FINAL, [5, 6])
    expected = reference_logits(model, tokens(7), BLOCKS, [*FINAL, 5, 6])[-3:]
    assert (found - expected).abs().max() <= 1e-4
    assert all(torch.equal(part.keys, kept) for part, kept in zip(parts, before, strict=True)), "rule 5"


@pytest.mark.parametrize("family", OTHER_FAMILIES)
def test_the_chosen_path_of_other_families_is_exact(family):
    model = gpu_model(family)
    parts = [encode_prefix(model, tokens(7)), *encode_all(model, BLOCKS)]
    with make_runner(model).join(parts, 1) as joined:
        assert joined.path == "cuda graphs"
    found = joined_logits(model, parts, FINAL, [5, 6])
    assert (found - reference_logits(model, tokens(7), BLOCKS, [*FINAL, 5, 6])[-3:]).abs().max() <= 1e-4


@pytest.mark.parametrize("family", [*FAMILIES, *INTERLEAVED])
def test_bfloat16_is_as_far_from_float32_as_the_networks_own_pass_in_it(family):
    """The tolerance is derived, not chosen: the dense reference in bfloat16 is off by the rounding of every step; the
    fast path rounds as often, elsewhere, and may be off by as much again."""
    model = gpu_model(family)
    true = reference_logits(model, tokens(7), BLOCKS, [*FINAL, 5, 6])[-3:]
    model.network.to(torch.bfloat16)
    own = reference_logits(model, tokens(7), BLOCKS, [*FINAL, 5, 6])[-3:].float()
    parts = [encode_prefix(model, tokens(7)), *encode_all(model, BLOCKS)]
    found = joined_logits(model, parts, FINAL, [5, 6]).float()
    assert (found - true).norm() <= 2 * (own - true).norm()


@pytest.mark.parametrize("n", [1, 16, 17, 256, 257, 700])
def test_questions_of_any_length_are_run(n):
    model = gpu_model()
    final = torch.randint(3, 128, (n,)).tolist()
    found = joined_logits(model, encode_all(model, BLOCKS), final, [])
    assert (found[0] - reference_logits(model, [], BLOCKS, final)[-1]).abs().max() <= 1e-4


@pytest.mark.parametrize("n", [5, 300])
def test_a_prompt_without_blocks_is_the_networks_own(n):
    model = gpu_model()
    ids = torch.randint(3, 128, (n,)).tolist()
    expected = model.network(input_ids=torch.tensor([[*ids, 5, 6]], device="cuda")).logits[0, -3:]
    assert (joined_logits(model, [], ids, [5, 6]) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("final", [FINAL, FINAL * 20])
@pytest.mark.parametrize("blocks", [BLOCKS, []])
def test_greedy_tokens_are_the_plain_paths(blocks, final):
    model = gpu_model()
    parts = encode_all(model, blocks)
    streams = []
    for runner in (GraphRunner(model), PlainRunner(model)):
        with runner.join(parts, len(final) + 30) as joined:
            streams.append(list(islice(joined.greedy(final), 30)))
    assert streams[0] == streams[1]


def test_tokens_drawn_from_the_most_likely_alone_are_the_greedy_ones():
    model = gpu_model()
    parts = encode_all(model, BLOCKS)
    drawing = Sampling(temperature=1.0, top_p=1e-6, seed=0)
    with make_runner(model).join(parts, len(FINAL) + 40) as joined:
        greedy = list(islice(joined.greedy(FINAL), 30))
    with make_runner(model).join(parts, len(FINAL) + 40) as joined:
        assert list(islice(sampled(joined.logits, FINAL, drawing), 30)) == greedy


@pytest.mark.parametrize("n_answers", [2, 4, 6])
def test_answers_in_company_are_those_alone(n_answers):
    model = gpu_model()
    parts = encode_all(model, BLOCKS)
    questions = [(parts[i % 4 :], [5 + i] * (3 + i)) for i in range(n_answers)]

    def answer(runner, question, n=40) -> list[int]:
        blocks, final = question
        with runner.join(blocks, 100) as joined:
            return list(islice(joined.greedy(final), n))

    plain, batch = PlainRunner(model), GraphRunner(model, n_slots=4)
    expected = [answer(plain, question, 40 - 5 * i) for i, question in enumerate(questions)]
    for _ in range(3):
        with ThreadPoolExecutor(n_answers) as pool:
            found = list(pool.map(lambda i: answer(batch, questions[i], 40 - 5 * i), range(n_answers)))
        assert found == expected
    assert answer(batch, questions[0]) == expected[0], "alone again"


def test_an_answer_beyond_the_room_is_an_error_and_a_long_one_takes_the_plain_way():
    runner = GraphRunner(gpu_model())
    with runner.join([], 20) as joined, pytest.raises(ValueError, match="holds 2048 tokens"):
        list(islice(joined.greedy(FINAL), 2100))
    with runner.join([], 2100) as joined:
        assert joined.path == "plain" and len(list(islice(joined.greedy(FINAL), 30))) == 30


@pytest.mark.parametrize("n_on_host", [1, 3, len(BLOCKS)])
def test_blocks_in_host_memory_are_loaded_on_the_way(n_on_host):
    model = gpu_model(num_hidden_layers=6)
    parts = encode_all(model, BLOCKS)
    on_host = [BlockKV(part.keys.cpu().pin_memory(), part.values.cpu().pin_memory()) for part in parts[:n_on_host]]
    expected = reference_logits(model, [], BLOCKS, [*FINAL, 5])[-2:]
    runner = GraphRunner(model)
    for _ in range(3):
        with runner.join([*on_host, *parts[n_on_host:]], 50) as joined:
            found = torch.stack([joined.logits(FINAL).clone(), joined.logits([5]).clone()])
            assert all(torch.equal(a.keys, b.keys) for a, b in zip(joined.parts, parts, strict=True))
        assert (found - expected).abs().max() <= 1e-4
        with runner.join([*on_host, *parts[n_on_host:]], 50):
            pass  # given up before a token came


def on_disk(folder, parts) -> DiskTier:
    """A tier with `parts` under their numbers."""
    tier = DiskTier(folder, 1 << 30, "gpu", pin_memory=True)
    for number, part in enumerate(parts):
        tier.put(f"{number:064x}", part)
    return tier


def opened(tier: DiskTier, n: int, readers: ThreadPoolExecutor, pause_s: float = 0.0) -> list[BlockKV]:
    """Those parts on their way; before each read there is a pause."""

    def slow(part: BlockKV) -> BlockKV:
        return replace(part, read=lambda layers: (time.sleep(pause_s), part.read(layers))[1])

    parts = [slow(tier.open(f"{number:064x}")) for number in range(n)]
    begin(parts, readers)
    return parts


@pytest.mark.parametrize("n_on_disk", [1, 3, len(BLOCKS)])
@pytest.mark.parametrize("n_final", [20, 300])
def test_blocks_on_disk_are_read_on_the_way(tmp_path, n_on_disk, n_final):
    model, final = gpu_model(num_hidden_layers=6), tokens(n_final)
    parts = encode_all(model, BLOCKS)
    tier, runner = on_disk(tmp_path, parts[:n_on_disk]), GraphRunner(model)
    expected = reference_logits(model, [], BLOCKS, [*final, 5])[-2:]
    with ThreadPoolExecutor(2) as readers:
        for _ in range(3):
            coming = opened(tier, n_on_disk, readers)
            with runner.join([*coming, *parts[n_on_disk:]], 350) as joined:
                found = torch.stack([joined.logits(final).clone(), joined.logits([5]).clone()])
                assert all(torch.equal(a.keys, b.keys) for a, b in zip(joined.parts, parts, strict=True))
            assert (found - expected).abs().max() <= 1e-4 and all(part.settle() for part in coming)
            coming = opened(tier, n_on_disk, readers)
            with runner.join([*coming, *parts[n_on_disk:]], 50):
                pass  # given up before a token came
            for part in coming:
                part.settle()


def test_a_layer_that_is_damaged_shows_before_the_first_token(tmp_path):
    model = gpu_model(num_hidden_layers=6)
    parts = encode_all(model, BLOCKS)
    tier, runner = on_disk(tmp_path, parts), GraphRunner(model)
    path = tier._path(f"{4:064x}")
    whole = path.read_bytes()
    path.write_bytes(whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:])
    with ThreadPoolExecutor(2) as readers:
        coming = opened(tier, len(parts), readers)
        with pytest.raises(KVCorruptError, match="layer 5"), runner.join(coming, 50) as joined:
            joined.logits(FINAL)
        settled = [part.settle() for part in coming]
    assert settled == [number != 4 for number in range(len(parts))] and not path.exists()
    with runner.join(parts, 50) as joined:
        assert (joined.logits(FINAL) - reference_logits(model, [], BLOCKS, FINAL)[-1]).abs().max() <= 1e-4


def test_others_are_decoded_while_blocks_are_read(tmp_path):
    """The passes of both are put on the device's queue in turns, and none sees the other's half-written state."""
    model = gpu_model(num_hidden_layers=6)
    parts = encode_all(model, BLOCKS)
    tier, runner, plain = on_disk(tmp_path, parts), GraphRunner(model, n_slots=3), PlainRunner(model)

    def answer(with_runner, blocks, final, n) -> list[int]:
        with with_runner.join(blocks, 400) as joined:
            return list(islice(joined.greedy(final), n))

    expected = [answer(plain, parts, [5 + i] * (3 + i), 150 if i < 2 else 30) for i in range(3)]
    with ThreadPoolExecutor(3) as answers, ThreadPoolExecutor(1) as readers:
        for _ in range(3):
            decoded = [answers.submit(answer, runner, parts, [5 + i] * (3 + i), 150) for i in range(2)]
            coming = opened(tier, len(parts), readers, pause_s=0.01)
            assert answer(runner, coming, [7] * 5, 30) == expected[2]
            assert [future.result() for future in decoded] == expected[:2]


def test_an_altered_file_is_encoded_anew_and_told(tmp_path):
    model = tiny_model(tokenizer=tiny_tokenizer())
    model = AnswerModel(model.network.cuda(), model.tokenizer, "gpu")
    tiers = [
        MemoryTier(0, "cuda", "device"),
        DiskTier(tmp_path / "kv", 1 << 26, kv_identity(model).digest, pin_memory=True),
    ]
    pipeline = pytest.importorskip("blockrag.pipeline", reason="FAISS is missing", exc_type=ImportError)
    rag = pipeline.Pipeline.open(Engine(model, WordEmbedder(), TieredKV(tiers)), tmp_path)
    text = "".join(f"River {i} is {i} kilometres long and flows to the sea. " * 4 + "\n\n" for i in range(6))
    rag.add(rag.segment(Document("rivers.txt", "text/plain", text)))
    whole = [*rag.ask("How long is river 3?", k=3, max_new_tokens=6)][-1]
    for path in (tmp_path / "kv").glob("*/*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1] + b"?")
    told = [*rag.ask("How long is river 3?", k=3, max_new_tokens=6)][-1]
    assert whole.report.kv_hits == {"disk": 3} and whole.report.path == "cuda graphs"
    assert told.text == whole.text and told.report.kv_misses == 3 and "not whole" in told.report.notes[0]


def test_slots_are_used_again_and_do_not_mix():
    model = gpu_model()
    runner, parts = GraphRunner(model, n_slots=2), encode_all(model, BLOCKS)
    one, other = parts[:3], parts[2:]
    with runner.join(one, 50) as a, runner.join(other, 50) as b:
        found = [a.logits(FINAL).clone(), b.logits(FINAL).clone(), a.logits([5]).clone(), b.logits([5]).clone()]
    with runner.join(one, 50) as a:
        assert torch.equal(a.logits(FINAL), found[0])
    for blocks, first, second in ((BLOCKS[:3], *found[::2]), (BLOCKS[2:], *found[1::2])):
        expected = reference_logits(model, [], blocks, [*FINAL, 5])[-2:]
        assert (torch.stack([first, second]) - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.bfloat16, 8e-3)])
@pytest.mark.parametrize("n_queries, n_tail", [(64, 0), (1, 60), (16, 3)])
@pytest.mark.parametrize(
    "heads, kv_heads, dim, interleaved, share",
    [(32, 8, 128, False, 1), (9, 3, 64, False, 1), (8, 1, 256, False, 1), (32, 8, 128, True, 1), (9, 3, 64, True, 2)],
)
def test_attention_over_blocks_is_causal_attention_over_turned_keys(
    heads, kv_heads, dim, interleaved, share, n_queries, n_tail, dtype, tolerance
):
    """`share`: of a head's components, one in so many is rotated."""
    generator = torch.Generator("cuda").manual_seed(0)
    draw = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype, generator=generator)  # noqa: E731
    half = dim // 2 // share
    rope = Rope(1.0 / 10_000 ** (torch.arange(half).double() / half), interleaved=interleaved)
    parts = [BlockKV(draw(2, kv_heads, n, dim), draw(2, kv_heads, n, dim), i) for i, n in enumerate((1, 700, 512, 33))]
    tail, query = draw(2, 1, kv_heads, 128, dim), draw(1, heads, n_queries, dim)
    tiling = tiling_for(heads // kv_heads * n_queries, kv_heads, dim, query.itemsize)
    table = BlockTable(rope, {tiling.splits, 4}, query.device)
    n = table.write(parts)
    counts = torch.tensor([n, n_tail], device="cuda")
    found = attend_blocks(
        query, *tail, table.view(tiling.splits), counts, layer=1, rotate=True, scale=dim**-0.5, tiling=tiling
    )
    double = [BlockKV(part.keys.double(), part.values.double(), part.first_position) for part in parts]
    storage = torch.stack([_join_in_double(double, rope), torch.cat([part.values for part in double], 2)])[:, 1]
    k, v = (
        torch.cat([joined, own[0, :, : n_tail + n_queries].double()], 1).repeat_interleave(heads // kv_heads, 0)
        for joined, own in zip(storage, tail, strict=True)
    )
    seen = torch.arange(k.shape[1], device="cuda") <= n + n_tail + torch.arange(n_queries, device="cuda")[:, None]
    weights = (query[0].double() @ k.transpose(1, 2) * dim**-0.5).masked_fill(~seen, float("-inf")).softmax(-1)
    expected = (weights @ v).transpose(0, 1)[None]
    assert (found.double() - expected).norm() / expected.norm() <= tolerance


def _join_in_double(parts: list[BlockKV], rope: Rope) -> torch.Tensor:
    rows, start, half = [], 0, len(rope.inv_freq)
    for part in parts:
        angle = (rope.inv_freq * (start - part.first_position)).cuda()
        rotated = part.keys[..., : 2 * half]
        pairs = rotated.unflatten(-1, (half, 2)).unbind(-1) if rope.interleaved else rotated.chunk(2, -1)
        rotated = torch.view_as_real(torch.complex(*pairs) * torch.polar(torch.ones_like(angle), angle))
        rotated = rotated.flatten(-2) if rope.interleaved else torch.cat(rotated.unbind(-1), -1)
        rows.append(torch.cat([rotated, part.keys[..., 2 * half :]], -1))
        start += part.n_tokens
    return torch.cat(rows, 2)


FORMATS = {
    "plain": BlockFormat(),
    "sinks": BlockFormat(sink_ids=(5, 6)),
    "learned sinks": BlockFormat(sink_embeddings=torch.linspace(-1, 1, 2 * 64).view(2, 64)),
    "prefix visible": BlockFormat(sink_ids=(7,), prefix_visible=True),
}


@pytest.mark.parametrize("block_format", FORMATS.values(), ids=FORMATS)
def test_packed_blocks_are_isolated_to_the_bit_and_as_exact_as_the_networks_own_pass(block_format, monkeypatch):
    """How far bfloat16 may be from float32 is derived from how far `transformers`' own pass in it is."""
    plain = gpu_model(block_format=block_format)
    exact = encode_all(plain, BLOCKS, encode_prefix(plain, tokens(7)))
    plain.network.to(torch.bfloat16)
    assert has_packs(plain)
    prefix = encode_prefix(plain, tokens(7))
    together = encode_all(plain, BLOCKS, prefix)
    monkeypatch.setattr("blockrag.attention.encode.has_packs", lambda model: False)
    rows = encode_all(plain, BLOCKS, prefix)
    monkeypatch.undo()
    for block, packed, row, true in zip(BLOCKS, together, rows, exact, strict=True):
        (alone,) = encode_all(plain, [block], prefix)
        assert torch.equal(alone.keys, packed.keys) and torch.equal(alone.values, packed.values)
        assert (packed.keys - true.keys).norm() <= 1.5 * (row.keys - true.keys).norm()


def test_fused_steps_are_taken_away_again():
    model = gpu_model("qwen3")
    ids = torch.randint(3, 128, (1, 40), device="cuda")
    before = model.network(input_ids=ids).logits
    with fused(model.network):
        during = model.network(input_ids=ids).logits
    assert torch.equal(model.network(input_ids=ids).logits, before)
    assert not torch.equal(during, before), "something was replaced"
    assert (during - before).abs().max() <= 1e-4


@pytest.mark.parametrize("family", [*FAMILIES, *OTHER_FAMILIES])
def test_every_familys_way_to_rotate_has_a_kernel(family):
    network = gpu_model(family).network
    module = sys.modules[type(network).__module__]
    original = module.apply_rotary_pos_emb
    with fused(network):
        assert module.apply_rotary_pos_emb is not original
    assert module.apply_rotary_pos_emb is original


@pytest.mark.parametrize("n", [1, 255, 256, 301])
def test_a_rotation_of_many_tokens_is_what_the_network_computes(n):
    """From `MANY_ROWS` tokens on a program turns several, and the last one fewer."""
    query, key = torch.randn(1, 9, n, 64, device="cuda"), torch.randn(1, n, 3, 64, device="cuda").transpose(1, 2)
    angles = torch.randn(1, n, 32, device="cuda").repeat(1, 1, 2)
    expected = modeling_llama.apply_rotary_pos_emb(query, key, angles.cos(), angles.sin())
    for found, wanted in zip(rotate_both(query, key, angles.cos(), angles.sin()), expected, strict=True):
        assert (found - wanted).abs().max() <= 1e-6
