"""The header of a table goes with each of its blocks; the blocks still tile the text."""

import pytest

from blockrag import BlockRAG
from blockrag.documents import Document, load
from blockrag.documents.tables import header_of
from blockrag.segment import SizeBounds
from tests.document_files import FIELD
from tests.tiny import tiny_engine


@pytest.mark.parametrize(
    "text, header",
    [
        ("id,port\n1,Alda\n2,Brim\n", "id,port\n"),
        ('id;"port; name"\n1;Alda\n', 'id;"port; name"\n'),
        ("1,2\n3,4\n", ""),
        ("id,port\n", ""),
        ("id,id\n1,2\n", ""),
        ("Ida: yes, no\n\nPer: ok\n", ""),
        ("a,b\n1,2,3\n4\n5\n", ""),
        ('"two\nlines",b\n1,2\n', '"two\nlines",b\n'),
        ("x" * 2000 + ",b\n1,2\n", ""),
    ],
)
def test_headers(text, header):
    assert header_of("text/csv", text) == header
    assert header_of("text/plain", text) == ""


def test_a_block_of_a_table_has_its_header():
    document = Document("a.csv", "text/csv", "id,port\n1,Alda\n2,Brim\n")
    assert document.block_text(0, 8) == "id,port\n" and document.block_text(15, 22) == "id,port\n2,Brim\n"


def test_the_header_goes_with_each_source(tmp_path):
    document = load(FIELD / "c16_multiline.csv")
    with BlockRAG(tiny_engine(tmp_path / "kv"), tmp_path / "index") as rag:
        (record,) = rag.index(document, segmenter="structural", granularity=1.0, bounds=SizeBounds(8, 128))
        assert record.n_blocks > 3
        answer = rag.ask("What is the remark of port 7?", k=3, max_new_tokens=2)
        assert len(answer.sources) == 3
        for source in answer.sources:
            span = document.text[source.start : source.end]
            assert source.text == ("" if source.start == 0 else "id,port,remark\n") + span
        assert answer.report.n_prefill_tokens >= 0
        assert rag.pipeline.index.read(record.id).text == document.text
        assert all(rag.engine.kv_key(source.text) == source.kv_key for source in answer.sources)
