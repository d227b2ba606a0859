"""Altered archives and KV files, and arguments of any kind: refused with a reason, or what they say they are.

``BLOCKRAG_FUZZ=1000 python -m pytest tests/test_fuzz.py tests/test_documents_fuzz.py`` tries as many of each, which takes
some ten minutes. What hypothesis finds, it keeps in ``.hypothesis`` and tries first the next time.
"""

import io
import json
import os
import random
import zipfile

import gradio as gr
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockrag.documents import Limits
from blockrag.errors import KVCorruptError, KVMismatchError
from blockrag.kv.block_kv import BlockKV
from blockrag.kv.reader import kv_from_bytes
from blockrag.kv.writer import kv_to_bytes
from storage.archive_reader import MANIFEST, read
from tests.fuzzing import mutated
from tests.tiny import tiny_engine
from tests.ui.serving import make_service
from ui.api import _Calls

pytestmark = pytest.mark.slow

N = int(os.environ.get("BLOCKRAG_FUZZ", "30"))
OPTIONS = {"max_examples": N, "deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}

ENTRY = {
    "name": "a.md", "source": "a.md", "media_type": "text/markdown", "encoding": "", "notes": ["one"], "sha256": "0" * 64,
    "segmenter": "structural", "bounds": [16, 128], "granularity": 0.5, "chars": [5, 9], "scores": [0.5, 0.25],
    "edits": [[7, "added"]],
}  # fmt: skip
LISTED = {"format": "blockrag-collection", "version": 1, "name": "Rivers", "documents": [ENTRY]}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


def archive(manifest: bytes, text: bytes = b"# Head\n\nA text.\n") -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(MANIFEST, manifest)
        made.writestr("documents/0.txt", text)
    return file.getvalue()


def is_answered(data: bytes) -> None:
    header, rest = read({"n_documents": 5, "n_chars": 10_000}, io.BytesIO(data), Limits())
    parts = b"".join(rest)
    assert header.get("reason") or (isinstance(header["name"], str) and header["n_documents"] >= 0)
    json.dumps(header)
    assert len(parts) < 1 << 20


@settings(**OPTIONS)
@given(st.integers(), st.booleans())
def test_altered_archives_are_refused_or_read(seed, inside):
    chance = random.Random(seed)
    whole = json.dumps(LISTED).encode()
    is_answered(archive(mutated(whole, chance)) if inside else mutated(archive(whole), chance))


@settings(**OPTIONS)
@given(st.sampled_from(sorted({*ENTRY, *LISTED})), JSON)
def test_lists_of_contents_with_anything_in_them_are_refused_or_read(field, value):
    entry, listed = dict(ENTRY), dict(LISTED)
    (entry if field in entry else listed)[field] = value
    if field != "documents":
        listed["documents"] = [entry]
    is_answered(archive(json.dumps(listed).encode("utf-8", "surrogatepass")))


KV = BlockKV(torch.arange(48.0).view(2, 2, 3, 4), -torch.arange(48.0).view(2, 2, 3, 4))


def is_refused_or_what_it_was(data: bytes, at_rest: str = "exact") -> None:
    whole = kv_from_bytes(kv_to_bytes(KV, "identity", "key", at_rest), "identity", "key", at_rest)
    try:
        found = kv_from_bytes(data, "identity", "key", at_rest)
    except (KVCorruptError, KVMismatchError):
        return
    assert torch.equal(found.keys, whole.keys) and torch.equal(found.values, whole.values)
    assert found.first_position == whole.first_position


@settings(**OPTIONS)
@given(st.integers(), st.sampled_from(["exact", "int8"]))
def test_altered_kv_is_refused_or_what_it_was(seed, at_rest):
    is_refused_or_what_it_was(mutated(kv_to_bytes(KV, "identity", "key", at_rest), random.Random(seed)), at_rest)


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    service = make_service(tiny_engine(), tmp_path_factory.mktemp("fuzz"))
    service.access = "shared"
    yield _Calls(service)
    service.library.close()


ARGUMENTS = {
    "new_collection": ["name"],
    "list_documents": ["collection"],
    "add_text": ["name", "text", "collection"],
    "search_blocks": ["question", "k", "collection"],
    "ask": ["question", "mode", "k", "max_new_tokens", "collection", "temperature", "top_p", "seed"],
    "delete_document": ["id", "collection"],
}


@settings(**OPTIONS)
@given(st.sampled_from(sorted(ARGUMENTS)), st.data())
def test_arguments_of_any_kind_are_refused_with_a_reason_or_taken(calls, call, data):
    given_ = {name: data.draw(JSON, name) for name in ARGUMENTS[call]}
    try:
        getattr(calls, call)(**given_)
    except gr.Error as error:
        assert error.message and len(error.message) < 2_000
