"""Adapters: kept and loaded whole, told apart, refused where they do not belong; both modes served from one process."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import peft
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

from blockrag import load
from blockrag.attention.format import BLOCK_FORMAT
from blockrag.cli import main
from blockrag.engine import Engine
from blockrag.errors import WeightsError
from blockrag.events import Answer
from blockrag.kv.key import kv_identity
from blockrag.kv.memory import MemoryTier
from blockrag.kv.tiered import TieredKV
from blockrag.models.adapter import ABOUT, Adapter, Change, apply_changes, load_adapter, save_adapter
from blockrag.models.load import adapted, load_answer_model
from blockrag.models.peft_format import export_peft, import_peft
from blockrag.models.shipped import find_adapter, shipped_adapters
from blockrag.models.store import base_id
from blockrag.pipeline import Pipeline
from tests.samples import RIVER_SECTIONS
from tests.tiny import CHANGED, WordEmbedder, make_adapter, make_changes, tiny_model, tiny_tokenizer


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A tiny model in a folder."""
    monkeypatch.setenv("BLOCKRAG_HOME", str(tmp_path / "home"))
    tiny_model().network.save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_what_is_kept_is_what_was_given(tmp_path):
    adapter = make_adapter(prefix_visible=True)
    save_adapter(adapter, tmp_path)
    again = load_adapter(tmp_path)
    for ours, theirs in ((adapter.teacher, again.teacher), (adapter.student, again.student)):
        assert set(ours) == set(theirs)
        assert all(torch.equal(a, b) for name in ours for a, b in zip(ours[name], theirs[name], strict=True))
    assert torch.equal(adapter.sink_embeddings, again.sink_embeddings)
    assert again.about == {"recipe": "none"} and again.prefix_visible and again.base_id == adapter.base_id
    assert again.block_format.digest == adapter.block_format.digest
    assert again.full_format.digest == adapter.full_format.digest != again.block_format.digest


def test_eight_bits_keep_nearly_what_was_given_in_half_the_bytes(tmp_path):
    adapter = make_adapter()
    for int8 in (False, True):
        save_adapter(adapter, tmp_path / str(int8), int8=int8)
    again = load_adapter(tmp_path / "True")
    for given, kept in ((adapter.teacher, again.teacher), (adapter.student, again.student)):
        for name, change in given.items():
            wanted, found = (each.up.float() @ each.down.float() for each in (change, kept[name]))
            assert 0 < (found - wanted).norm() < 0.02 * wanted.norm()
    sizes = [(tmp_path / str(int8) / "adapter.safetensors").stat().st_size for int8 in (False, True)]
    assert sizes[1] < 0.75 * sizes[0]  # of so small an adapter names are a large part
    save_adapter(again, tmp_path / "once more", int8=True)
    assert load_adapter(tmp_path / "once more").block_format.digest == again.block_format.digest


def test_a_change_by_nothing_is_kept_in_eight_bits(tmp_path):
    nothing = {CHANGED[0]: Change(torch.zeros(64, 3), torch.ones(3, 64))}
    save_adapter(replace(make_adapter(), student=nothing), tmp_path, int8=True)
    assert not load_adapter(tmp_path).student[CHANGED[0]].up.any()


def test_everything_that_changes_block_kv_changes_its_identity():
    adapter, network = make_adapter(), tiny_model().network
    others = [
        replace(adapter, student=make_changes(3, network)),
        replace(adapter, teacher=make_changes(3, network)),
        replace(adapter, sink_embeddings=adapter.sink_embeddings + 1),
        replace(adapter, sink_embeddings=None, sink_ids=(5, 6)),
        replace(adapter, prefix_visible=True),
    ]
    model = tiny_model(tokenizer=tiny_tokenizer())
    digests = {kv_identity(replace(model, format=each.block_format)).digest for each in [adapter, *others]}
    assert len(digests) == 6 and kv_identity(model).digest not in digests


@pytest.mark.parametrize("harm", ["absent", "not json", "another format", "cut short"])
def test_what_is_no_adapter_is_refused(tmp_path, harm):
    save_adapter(make_adapter(), tmp_path)
    about = tmp_path / ABOUT
    if harm == "absent":
        about.unlink()
    elif harm == "not json":
        about.write_text("{")
    elif harm == "another format":
        about.write_text(json.dumps({**json.loads(about.read_text()), "format": 99}))
    else:
        tensors = tmp_path / "adapter.safetensors"
        tensors.write_bytes(tensors.read_bytes()[:-50])
    with pytest.raises(WeightsError, match="adapter"):
        load_adapter(tmp_path)


def test_changes_that_do_not_fit_are_refused_by_name():
    network = tiny_model().network
    change = make_changes(1, network)[CHANGED[0]]
    with pytest.raises(WeightsError, match="layers.7"):
        apply_changes(network, {"model.layers.7.self_attn.q_proj": change})
    with pytest.raises(WeightsError, match="down_proj"):
        apply_changes(network, {CHANGED[1]: change})


def test_two_networks_share_what_the_student_leaves_alone():
    adapter, untouched = make_adapter(), tiny_model()
    model = adapted(tiny_model().network, tiny_tokenizer(), "w", adapter)
    full, block = (dict(m.network.named_parameters()) for m in (model.full, model))
    for name, weight in untouched.network.named_parameters():
        layer = name.removesuffix(".weight")
        assert (full[name].data_ptr() == block[name].data_ptr()) == (layer not in CHANGED), name
        if layer in CHANGED:
            teacher = adapter.teacher[layer].added_to(weight)
            assert torch.equal(full[name], teacher)
            assert torch.equal(block[name], adapter.student[layer].added_to(teacher))
        else:
            assert torch.equal(full[name], weight)


def make_engine(adapter: Adapter) -> Engine:
    model = adapted(tiny_model().network, tiny_tokenizer(), "w", adapter)
    return Engine(model, WordEmbedder(), TieredKV([MemoryTier(1 << 26)]))


def answers(engine: Engine, folder, mode: str) -> str:
    pipeline = Pipeline.open(engine, folder)
    return next(e.text for e in pipeline.ask("How long is river 3?", mode, 3, 12) if isinstance(e, Answer))


def test_full_mode_is_the_teacher_and_block_mode_the_student():
    adapter = make_adapter()
    engine = make_engine(adapter)
    alone = tiny_model().network
    apply_changes(alone, adapter.teacher)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(engine.full_model.network(ids).logits, alone(ids).logits)
    assert not torch.equal(engine.model.network(ids).logits, alone(ids).logits)
    assert engine.prefix_kv.n_tokens == len(engine.prompt.prefix_ids)


def test_both_modes_at_once_say_what_each_says_alone(tmp_path):
    engine = make_engine(make_adapter())
    pipeline = Pipeline.open(engine, tmp_path)
    path = tmp_path / "rivers.md"
    path.write_text(RIVER_SECTIONS)
    pipeline.add(pipeline.segment(load(path)), granularity=1.0)
    alone = {mode: answers(engine, tmp_path, mode) for mode in ("block", "full")}
    with ThreadPoolExecutor(4) as pool:
        modes = ["block", "full"] * 4
        said = list(pool.map(lambda mode: answers(engine, tmp_path, mode), modes))
    assert said == [alone[mode] for mode in modes]


def test_an_adapter_of_another_base_is_refused(base, tmp_path):
    with pytest.raises(WeightsError, match="--adapter none"):
        load_answer_model(base, adapter=make_adapter())
    model = load_answer_model(base, adapter=make_adapter(base, base_id(base)))
    assert model.full is not None and model.format.n_sinks == 2


def test_auto_takes_what_was_shipped_for_the_model(base, tmp_path):
    shipped = tmp_path / "shipped"
    assert find_adapter("auto", base, shipped) is None and shipped_adapters(shipped) == {}
    save_adapter(make_adapter(), shipped / "other")
    assert find_adapter("auto", base, shipped) is None
    save_adapter(make_adapter(base, base_id(base)), shipped / "mine")
    for name in ("auto", "mine", str(shipped / "mine")):
        assert find_adapter(name, base, shipped).base == base
    assert find_adapter("none", base, shipped) is None
    with pytest.raises(WeightsError, match="auto, none, mine, other"):
        find_adapter("their", base, shipped)


@pytest.mark.parametrize("mode", ["full", "block"])
def test_merged_weights_are_an_ordinary_checkpoint(base, tmp_path, mode):
    adapter = make_adapter(base, base_id(base))
    save_adapter(adapter, tmp_path / "adapter")
    out = tmp_path / "merged"
    flags = ["merge", "--model", base, "--adapter", str(tmp_path / "adapter"), "--mode", mode, "--out", str(out)]
    assert main(flags) == 0
    merged, both = load_answer_model(str(out)), load_answer_model(base, adapter=load_adapter(tmp_path / "adapter"))
    expected = both if mode == "block" else both.full
    ids = torch.tensor([[5, 6, 7, 8]])
    vocabulary = expected.network.config.vocab_size
    assert torch.equal(merged.network(ids).logits[..., :vocabulary], expected.network(ids).logits)
    if mode == "block":
        told = json.loads((out / BLOCK_FORMAT).read_text())
        assert merged.tokenizer.convert_ids_to_tokens(told["sinks"]) == ["<|block_sink_0|>", "<|block_sink_1|>"]
        assert torch.equal(merged.embed(torch.tensor(told["sinks"])), adapter.sink_embeddings)
    assert main(flags) == 1  # the folder is there already


def test_the_command_merge_writes_a_lora_too(base, tmp_path, capsys):
    save_adapter(replace(make_adapter(base, base_id(base)), sink_ids=(7,), sink_embeddings=None), tmp_path / "adapter")
    flags = [
        "merge",
        "--model",
        base,
        "--adapter",
        str(tmp_path / "adapter"),
        "--lora",
        "--out",
        str(tmp_path / "lora"),
    ]
    assert main(flags) == 0 and capsys.readouterr().out == f"{tmp_path / 'lora'}\n"
    assert import_peft(tmp_path / "lora").keys() == make_adapter().student.keys()
    adapter = load_adapter(tmp_path / "adapter")
    told = json.loads((tmp_path / "lora" / BLOCK_FORMAT).read_text())
    assert told == {"sinks": [7], "prefix_visible": False, "digest": adapter.block_format.digest}


def test_merging_without_an_adapter_says_so(base, tmp_path, capsys):
    assert main(["merge", "--model", base, "--adapter", "none", "--out", str(tmp_path / "out")]) == 1
    assert "no adapter" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["block", "full"])
def test_an_adapter_becomes_a_lora_of_peft_and_comes_back(base, tmp_path, mode):
    adapter = replace(make_adapter(), base=base, sink_ids=(), sink_embeddings=None)
    export_peft(adapter, tmp_path / "peft", mode)
    expected, again, theirs = (AutoModelForCausalLM.from_pretrained(base) for _ in range(3))
    for role in [adapter.teacher, adapter.student][: 2 if mode == "block" else 1]:
        apply_changes(expected, role)
    apply_changes(again, import_peft(tmp_path / "peft"))
    theirs = peft.PeftModel.from_pretrained(theirs, str(tmp_path / "peft")).merge_and_unload()
    for network in (again, theirs):
        for name, weight in expected.state_dict().items():
            torch.testing.assert_close(
                network.state_dict()[name], weight, rtol=0, atol=1e-5 * weight.abs().max().item()
            )
    assert (tmp_path / "peft" / BLOCK_FORMAT).exists() == (mode == "block")
    moved = max((expected.state_dict()[f"{n}.weight"] - w).abs().max() for n, w in _originals(base, adapter).items())
    assert moved > 0.05, "the change must be larger than the tolerance"


def _originals(base, adapter):
    network = AutoModelForCausalLM.from_pretrained(base)
    return {name: network.get_submodule(name).weight for name in adapter.teacher}


def test_scales_of_peft_are_read_as_peft_means_them(tmp_path):
    down, up = torch.randn(4, 6), torch.randn(5, 4)
    names = ("model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj")
    tensors = {
        f"base_model.model.{n}.lora_{side}.weight": t.clone() for n in names for side, t in (("A", down), ("B", up))
    }
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "alpha_pattern": {"layers.1.self_attn.q_proj": 2}}
    save_file(tensors, tmp_path / "adapter_model.safetensors")
    for rslora, scales in ((False, (2, 0.5)), (True, (4, 1))):
        (tmp_path / "adapter_config.json").write_text(json.dumps({**config, "use_rslora": rslora}))
        for name, scale in zip(names, scales, strict=True):
            change = import_peft(tmp_path)[name]
            torch.testing.assert_close(change.up @ change.down, scale * up @ down)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "IA3"}, "of type IA3"),
        ({"use_dora": True}, "use_dora=True"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({}, "no matrices of linear layers"),
        (None, "holds no PEFT adapter"),
    ],
)
def test_what_is_no_plain_lora_is_refused(tmp_path, changes, message):
    save_file({"base_model.model.embed.lora_embedding_A": torch.ones(2)}, tmp_path / "adapter_model.safetensors")
    if changes is not None:
        config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, **changes}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=message):
        import_peft(tmp_path)


def test_learned_sinks_and_an_empty_mode_cannot_be_exported(tmp_path):
    with pytest.raises(WeightsError, match="learned sinks"):
        export_peft(replace(make_adapter(), sink_ids=(), sink_embeddings=torch.ones(1, 8)), tmp_path)
    with pytest.raises(WeightsError, match="nothing in full mode"):
        export_peft(replace(make_adapter(), teacher={}), tmp_path, "full")
    with pytest.raises(ValueError, match="choose: block, full"):
        export_peft(make_adapter(), tmp_path, "both")
