"""Which models are accepted; every refusal names what was found and what to do."""

import json
import re
from pathlib import Path

import pytest
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from blockrag.attention.probe import check_exact
from blockrag.attention.runner import has_kernels
from blockrag.attention.varlen import has_packs
from blockrag.cli import main
from blockrag.errors import UnsupportedModelError
from blockrag.models import table
from blockrag.models.answer_model import AnswerModel
from blockrag.models.families import FAMILIES as VERIFIED
from blockrag.models.families import check_supported, rotated_layers, windows
from tests.tiny import EXPERTS, FAMILIES, LATENT, MORE, OTHER_FAMILIES, ROPE, WINDOWED, tiny_model


def config(family: str = "llama", **changes):
    small = {"hidden_size": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 2}
    return AutoConfig.for_model(family, **{**small, **changes})


def test_every_verified_family_is_in_the_exactness_tests():
    assert sorted([*FAMILIES, *OTHER_FAMILIES, *WINDOWED, *EXPERTS, *LATENT, *MORE]) == sorted(VERIFIED)


def test_the_guide_names_every_verified_family():
    listed = _page("docs/guides/models.md").split("\n## Families\n")[1].split("[Model families]")[0]
    assert sorted(re.findall("`(.+?)`", listed)) == sorted(VERIFIED)


@pytest.mark.parametrize("page", ["README.md", "docs/faq.md", "docs/guides/models.md", "docs/models.md"])
def test_pages_count_the_verified_families(page):
    counts = re.findall(r"(\d+) (?:\[?families|verified)", _page(page))
    assert counts and set(map(int, counts)) == {len(VERIFIED)}


def _page(name):
    return (Path(__file__).parent.parent / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("family", [*OTHER_FAMILIES, *WINDOWED, *EXPERTS, *LATENT, *MORE])
def test_verified_families_are_accepted_as_they_are_published(family):
    check_supported(AutoConfig.for_model(family))


def test_an_unverified_family_names_the_flag_that_overrides():
    with pytest.raises(UnsupportedModelError, match="'iquestcoder'.*--allow-unverified"):
        check_supported(config("iquestcoder"))
    check_supported(config("iquestcoder"), allow_unverified=True)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"family": "minimax_m3_vl_text", "layer_types": ["sliding_attention"] * 2},
            "sliding-window layers are not verified",
        ),
        ({"rope_parameters": {"rope_type": "proportional", "rope_theta": 1e4}}, "type 'proportional'"),
        ({"rope_parameters": {**ROPE["default"], "partial_rotary_factor": 0.5}}, r"partial.*0\.5"),
        ({"family": "gemma", "use_bidirectional_attention": True}, "later tokens"),
        ({"family": "falcon", "alibi": True}, "ALiBi"),
        ({"family": "lfm2", "layer_types": ["conv", "full_attention"]}, "conv"),
        ({"attn_logit_softcapping": 5.0}, "softcap"),
        ({"per_layer_config": {0: {"intermediate_size": 32}, 1: {"intermediate_size": 64}}}, "differ in shape"),
    ],
)
def test_what_cannot_be_cached_is_refused_by_name(changes, message):
    with pytest.raises(UnsupportedModelError, match=message):
        check_supported(config(**changes), allow_unverified=True)


@pytest.mark.parametrize(
    "family, message",
    [
        *((family, "sliding-window") for family in ("gemma3", "gemma3n_text", "modernbert-decoder", "mimo_v2_flash")),
        *((family, "linear_attention|recurrent") for family in ("qwen3_next", "jamba", "recurrent_gemma", "bamba")),
        *((family, "mamba|linear_attention|recurrent") for family in ("mamba", "mamba2", "falcon_mamba", "rwkv", "xlstm")),
        *((family, "absolute ones or ALiBi") for family in ("gpt2", "opt", "bloom", "mpt")),
        *((family, "latent attention") for family in ("longcat_flash",)),
        *((family, "queries are scaled by their position|latent") for family in ("ministral3", "mistral4")),
        *((family, "mixture of .* experts") for family in ("jetmoe", "lfm2_moe", "minimax_m3_vl_text")),
    ],
)  # fmt: skip
def test_families_that_cannot_work_are_refused_as_they_are_published(family, message):
    """The flag does not help: what it would lead to is a crash, or answers that are quietly wrong."""
    with pytest.raises(UnsupportedModelError, match=f"^{family}: .*({message}).*; use a "):
        check_supported(AutoConfig.for_model(family), allow_unverified=True)


def test_a_model_is_checked_when_it_is_made():
    with pytest.raises(UnsupportedModelError, match="later tokens"):
        tiny_model("gemma", use_bidirectional_attention=True)


def test_windows_are_read_from_the_configuration():
    assert windows(config("mistral", sliding_window=64)) == (64, 64)
    assert windows(config("gemma2", layer_types=["sliding_attention", "full_attention"], sliding_window=64)) == (
        64,
        None,
    )
    mixed = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64}
    assert rotated_layers(config("cohere2", **mixed)) == (True, False) == rotated_layers(config("exaone4", **mixed))
    with pytest.raises(UnsupportedModelError, match="no layer rotates"):
        check_supported(config("cohere2", layer_types=["full_attention"] * 2))
    assert windows(config("mistral", sliding_window=None)) is None is windows(config("llama"))


def test_no_fast_path_computes_attention_with_a_window_or_capped_scores():
    for family in ("gemma2", "gpt_oss", "ministral"):
        model = tiny_model(family)
        assert not model.has_plain_attention and not has_kernels(model) and not has_packs(model)
        ids = torch.arange(3, 43)[None]
        with pytest.raises(UnsupportedModelError, match="under a mask alone"):
            model.network(input_ids=ids, attend=lambda *given: None)


def test_a_network_built_otherwise_is_refused():
    network = AutoModelForCausalLM.from_config(config("gpt_neox", intermediate_size=64, vocab_size=40, rotary_pct=1.0))
    with pytest.raises(UnsupportedModelError, match="GPTNeoXForCausalLM: no module model.rotary_emb"):
        AnswerModel(network, None, "weights", allow_unverified=True)


def test_layers_without_rotation_are_read_from_the_configuration():
    assert rotated_layers(config("smollm3", num_hidden_layers=4)) == (True, True, True, False)
    assert rotated_layers(config("smollm3", no_rope_layers=[1, 1])) is None is rotated_layers(config("llama"))


def test_the_table_of_families_is_that_of_this_transformers():
    page = (Path(__file__).parent.parent / "docs" / "models.md").read_text(encoding="utf-8")
    if f"transformers {transformers.__version__}," in page:
        assert page == table.markdown(), "run python -m blockrag models families > docs/models.md"
    rows = {row.model_type: row for row in table.family_rows()}
    assert {name for name, row in rows.items() if row.state == "verified"} == {*VERIFIED}
    assert rows["mamba"].state == "refused" and "linear_attention" in rows["mamba"].why


def test_the_command_prints_every_family(capsys):
    assert main(["models", "families", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["families"]
    assert {"model_type": "mixtral", "state": "verified", "why": "sliding windows, experts"} in rows


def test_an_unverified_model_is_compared_with_one_pass():
    """nanochat rotates the other way round than its settings tell."""
    check_exact(tiny_model("iquestcoder", allow_unverified=True))
    with pytest.raises(
        UnsupportedModelError, match="nanochat: over cached blocks its logits differ.*would answer wrongly"
    ):
        check_exact(tiny_model("nanochat", allow_unverified=True))
