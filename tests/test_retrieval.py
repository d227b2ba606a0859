"""How blocks are found: by vectors, words or both, with filters, neighbours and a reranker; encoders and their prefixes."""

import json

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification, BertModel, BertTokenizerFast

from blockrag import BlockRAG, Document, Retrieval
from blockrag.cli import main
from blockrag.errors import ArgumentError
from blockrag.retrieve import embedder
from blockrag.retrieve.embedder import Embedder
from blockrag.retrieve.reranker import Reranker
from tests.samples import BOUNDS
from tests.tiny import tiny_engine

PARTS = (
    "Order 4711 was shipped on Monday. ",
    "The weather was fine all week long. ",
    "Parcels take three days by train. ",
    "Nobody asked for the money back. ",
)
LONG = "".join(part * 4 for part in PARTS)


@pytest.fixture
def rag(tmp_path):
    rag = BlockRAG(tiny_engine(tmp_path / "kv"), tmp_path)
    orders = Document("orders.txt", "text/plain", LONG, metadata={"year": 2020})
    letters = Document("letters.txt", "text/plain", "A letter about the weather and about trains. " * 4)
    rag.index(orders, letters, granularity=1.0, bounds=BOUNDS, segmenter="structural")
    return rag


def of(rag, question="4711", k=1, **how):
    return rag.search(question, k=k, retrieval=Retrieval(**how))


def test_a_number_is_found_by_words(rag):
    for by in ("lexical", "hybrid"):
        assert "4711" in of(rag, "Where is 4711?", by=by)[0].text
    assert of(rag, "xylophone", by="lexical") == ()


def test_an_answer_from_nothing_says_so(rag):
    answer = rag.ask("xylophone", max_new_tokens=2, retrieval=Retrieval(by="lexical"))
    assert answer.sources == () and "No block was found: the answer is from no document." in answer.report.notes


def test_documents_and_metadata_filter(rag):
    assert {s.document for s in of(rag, "weather", 9, documents=["letters.txt"])} == {"letters.txt"}
    assert {s.document for s in of(rag, "weather", 9, metadata={"year": 2020})} == {"orders.txt"}
    assert of(rag, "weather", 9, metadata={"year": 1999}) == ()
    answer = rag.ask("weather", max_new_tokens=2, retrieval=Retrieval(documents=["letters.txt"]))
    assert {s.document for s in answer.sources} == {"letters.txt"}
    with pytest.raises(ArgumentError, match="no document is called 'nothing'"):
        rag.ask("weather", retrieval=Retrieval(documents=["nothing"]))


def test_neighbours_come_in_reading_order_and_once(rag):
    (best,) = of(rag)
    around = of(rag, neighbours=1)
    starts = [s.start for s in around]
    assert best.start in starts and starts == sorted(starts) and len(starts) in (2, 3)
    assert [s.number for s in around] == list(range(1, len(around) + 1))
    everything = of(rag, k=3, neighbours=9)
    assert len({(s.document, s.start) for s in everything}) == len(everything)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"by": "bm25"}, "by is 'bm25'; give one of 'hybrid', 'dense', 'lexical'"),
        ({"neighbours": -1}, "neighbours is -1; give a whole number from 0 up"),
        ({"documents": "a.txt"}, "documents is 'a.txt'; give a list of texts"),
        ({"metadata": ["year"]}, r"metadata is \['year'\]; give a dictionary"),
    ],
)
def test_wrong_ways_to_find_are_refused(wrong, message):
    with pytest.raises(ArgumentError, match=message):
        Retrieval(**wrong)


class Shortest:
    def order(self, question, texts):
        return sorted(range(len(texts)), key=lambda i: len(texts[i]))


def test_a_reranker_orders_what_was_found(rag):
    plain = of(rag, "weather", 3)
    rag.engine.reranker = Shortest()
    found = of(rag, "weather", 3)
    assert [len(s.text) for s in found] == sorted(len(s.text) for s in of(rag, "weather", 99))[:3]
    assert of(rag, "weather", 3, rerank=False) == plain


def test_the_command_line_searches_as_told(rag, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("blockrag.cli.options.open_store", lambda args: rag.pipeline)
    ask = ["ask", "weather", "--store", str(tmp_path), "--max-new-tokens", "2", "--json"]
    assert main([*ask, "--by", "lexical", "--document", "letters.txt", "--neighbours", "1"]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {source["document"] for source in result["sources"]} == {"letters.txt"}
    assert main([*ask, "-k", "1"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["sources"]) == 1
    assert main([*ask, "--document", "nothing"]) == 2 and "no document is called" in capsys.readouterr().err


@pytest.fixture
def bert(tmp_path):
    """Folder of a tiny BERT, and its settings."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdeo")]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    folder = tmp_path / "bert"
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return folder, BertConfig(vocab_size=len(words), num_labels=1, max_position_embeddings=64, **sizes)


def test_a_cross_encoder_is_loaded_from_a_folder(bert):
    folder, config = bert
    BertForSequenceClassification(config).save_pretrained(folder)
    reranker = Reranker(str(folder))
    assert sorted(reranker.order("a b", ["c d", "e\ud800", "f g h"])) == [0, 1, 2] and reranker.order("a", []) == []


def test_prefixes_go_before_questions_and_blocks(bert, monkeypatch):
    folder, config = bert
    BertModel(config).save_pretrained(folder)
    plain, told = Embedder(folder, "w"), Embedder(folder, "w", prefixes=("a ", "b "))
    assert np.allclose(told.embed(["x"])[0], plain.embed_query("b x"), atol=1e-6)
    assert np.allclose(told.embed_query("x"), plain.embed(["a x"])[0], atol=1e-6)
    assert not np.allclose(told.embed_query("x"), plain.embed_query("x"), atol=1e-3)
    assert plain.weights_id == "w" and told.weights_id not in (
        "w",
        Embedder(folder, "w", prefixes=("", "c ")).weights_id,
    )
    monkeypatch.setattr(embedder, "local_path", lambda name: folder)
    loaded = embedder.load_embedder("intfloat/multilingual-e5-small")
    assert (loaded.query_prefix, loaded.passage_prefix) == ("query: ", "passage: ")
    plain._model.prompts = {"query": "Q ", "document": "D "}
    plain._model.save(str(folder))
    loaded = embedder.load_embedder("intfloat/multilingual-e5-small", query_prefix="")
    assert (loaded.query_prefix, loaded.passage_prefix) == ("", "D "), "the folder's own, but for what is given"
