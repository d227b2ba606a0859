"""The shipped model cards, as Hugging Face reads them."""

import pytest
from huggingface_hub import ModelCard

from training.cards import cards


@pytest.mark.parametrize("path", cards(), ids=lambda path: path.parent.name)
def test_every_card_has_the_metadata_of_its_results(path):
    assert path.read_text(encoding="utf-8") == cards()[path], "python -m training.cards writes it"


@pytest.mark.parametrize("path", cards(), ids=lambda path: path.parent.name)
def test_the_figures_of_the_metadata_are_those_of_the_text(path):
    card = ModelCard.load(path)
    assert card.data.license == "apache-2.0" and len(card.data.eval_results) >= 9
    shown = [r.metric_value for r in card.data.eval_results if r.metric_type in ("pk", "kl", "windowdiff")]
    assert sum(f"{value:.3f}" in card.text for value in shown) >= 5
