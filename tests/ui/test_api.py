"""The API refuses arguments that it does not know."""

import html

import gradio as gr
import pytest

from ui.api import _Calls
from ui.collection_service import CollectionService
from ui.limits import Limits

QUESTION = "Which river flows through Rome?"


HALF = "half \ud800 a character"


@pytest.mark.parametrize(
    "call, arguments, message",
    [
        ("ask", {"question": HALF}, "question has half of a character (a lone surrogate) at offset 5"),
        ("ask", {"question": None}, "question is None"),
        ("ask", {"question": ["a"]}, "question is ['a']"),
        ("ask", {"question": QUESTION, "collection": 7}, "collection is 7"),
        ("ask", {"question": QUESTION, "collection": HALF}, "collection has half"),
        ("ask", {"question": QUESTION, "k": float("nan")}, "k is nan"),
        ("ask", {"question": QUESTION, "temperature": float("nan")}, "temperature is nan"),
        ("ask", {"question": QUESTION, "top_p": "much"}, "top_p is 'much'"),
        ("ask", {"question": QUESTION, "k": "x" * 10**6}, "k is '"),
        ("search_blocks", {"question": HALF}, "question has half"),
        ("add_text", {"name": HALF, "text": "a"}, "name has half"),
        ("add_text", {"name": "n" * 201, "text": "a"}, "name has 201 characters; give at most 200"),
        ("add_text", {"name": "a.txt", "text": HALF}, "text has half"),
        ("add_text", {"name": "a.txt", "text": {"a": 1}}, "text is {'a': 1}"),
        (
            "add_text",
            {"name": "a.txt", "text": "x" * 4_000_001},
            "text has 4,000,001 characters; give at most 4,000,000",
        ),
        ("add_text", {"name": "a.txt", "text": ""}, "the file is empty"),
        ("delete_document", {"id": 5}, "id is 5"),
        ("delete_document", {"id": HALF}, "id has half"),
        ("list_documents", {"collection": None}, "collection is None"),
        ("new_collection", {"name": None}, "name is None"),
        ("new_collection", {"name": ""}, "1 to 200 characters"),
    ],
)
def test_malformed_arguments_are_refused_with_a_reason(service, call, arguments, message):
    """Nothing is cut quietly, and no answer is {"error": null}."""
    calls = _Calls(CollectionService(service.library, "shared"))
    with pytest.raises(gr.Error) as error:
        getattr(calls, call)(**arguments)
    assert message in html.unescape(error.value.message) and len(error.value.message) < 500


def test_a_question_is_bounded_in_characters_and_tokens(service):
    """3,000 bidirectional marks cost 40 s."""
    calls = _Calls(
        CollectionService(service.library, "shared", limits=Limits(question_chars=4_000, question_tokens=500))
    )
    for call in (calls.ask, calls.search_blocks):
        with pytest.raises(gr.Error, match="characters"):
            call("a" * 4_001)
        with pytest.raises(gr.Error, match="tokens; at most 500"):
            call("\u202e" * 3_000 + "a")


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"mode": "turbo"}, "'turbo'"),
        ({"k": 400}, "from 1 to 32"),
        ({"k": 0}, "from 1 to 32"),
        ({"max_new_tokens": 513}, "from 1 to 512"),
        ({"question": ""}, "question is ''"),
        ({"temperature": -1}, "temperature is -1"),
        ({"top_p": 0}, "top_p is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_the_api_refuses_what_it_does_not_know(wrong, message):
    with pytest.raises(gr.Error) as error:
        _Calls(None).ask(**{"question": QUESTION, **wrong})
    assert message in error.value.message.replace("&#x27;", "'")
    if "question" in wrong or "k" in wrong:
        with pytest.raises(gr.Error):
            _Calls(None).search_blocks(**{"question": QUESTION, **wrong})
