"""Altered archives and KV files, and arguments of any kind: refused with a reason, or what they say they are.

``BLOCKRAG_FUZZ=1000 python -m pytest tests/test_fuzz.py tests/test_documents_fuzz.py`` tries as many of each, which takes
some ten minutes. What hypothesis finds, it keeps in ``.hypothesis`` and tries first the next time.
"""

import json
import os
import random

import gradio as gr
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from blockrag.kv.writer import kv_to_bytes
from tests.fuzz_checks import ENTRY, KV, LISTED, archive, is_answered, is_refused_or_what_it_was
from tests.fuzzing import mutated
from tests.tiny import tiny_engine
from tests.ui.serving import make_service
from ui.api import _Calls

pytestmark = pytest.mark.slow

N = int(os.environ.get("BLOCKRAG_FUZZ", "30"))
OPTIONS = {"max_examples": N, "deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


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
