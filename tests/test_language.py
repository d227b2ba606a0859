"""A text in a language that encoder or segmenter did not learn is told."""

import pytest

from blockrag import BlockRAG, Document
from blockrag.language import language_note, language_of
from blockrag.retrieve.embedder import languages_of
from tests.samples import LANGUAGES
from tests.tiny import WordEmbedder, tiny_engine


@pytest.mark.parametrize("code", LANGUAGES)
def test_languages_are_told_apart(code):
    assert language_of(LANGUAGES[code] * 4) == code
    assert language_of(LANGUAGES[code] * 2000) == code


@pytest.mark.parametrize("text", ["", "abc", "1,2,3\n" * 999, "x = f(y)\nreturn z[i]\n" * 99, "Zürich; 8001\n" * 99])
def test_what_is_in_no_language_is_not_guessed(text):
    assert language_of(text) is None


@pytest.mark.parametrize(
    "card, expected",
    [
        ("---\nlanguage: en\nlicense: mit\n---\n# A model", {"en"}),
        ("---\nlanguage:\n- en\n- zh\ntags:\n- fr\n---\n", {"en", "zh"}),
        ('---\nlanguage: ["en", "de"]\n---\n', {"en", "de"}),
        ("---\nlanguage:\n  - multilingual\n  - af\n---\n", set()),
        ("---\nlicense: mit\n---\nlanguage: en", set()),
        ("# A model", set()),
        (None, set()),
    ],
)
def test_a_models_card_names_its_languages(card, expected, tmp_path):
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert languages_of(tmp_path) == expected


class English(WordEmbedder):
    languages = frozenset({"en"})


def test_a_note_names_what_does_not_know_the_language():
    spanish = LANGUAGES["es"] * 9
    assert language_note(spanish, English(), "neural") == (
        "The text seems to be Spanish: the encoder knows English, so that blocks are found by their words more than by "
        "their meaning; the segmenter learned English, so that blocks may begin at worse places."
    )
    assert "segmenter" not in language_note(spanish, English(), "structural")
    assert "encoder" not in language_note(spanish, WordEmbedder(), "neural")
    assert (
        language_note(spanish, WordEmbedder(), "fixed") == language_note(LANGUAGES["en"] * 9, English(), "neural") == ""
    )


def test_an_indexed_document_has_the_note(tmp_path):
    engine = tiny_engine()
    engine.embedder = English()
    rag = BlockRAG(engine, tmp_path / "index")
    given = [Document(f"{code}.txt", "text/plain", LANGUAGES[code] * 9) for code in ("en", "es")]
    english, spanish = rag.index(given, segmenter="structural")
    assert english.notes == () and "seems to be Spanish" in spanish.notes[0]
    assert [record.notes for record in rag.documents()] == [(), spanish.notes]
    changed = Document("es.txt", "text/plain", LANGUAGES["es"] * 10)
    assert rag.update(changed, segmenter="structural")[0].notes == spanish.notes
