"""The API refuses arguments that it does not know."""

import gradio as gr
import pytest

from ui.api import _Calls

QUESTION = "Which river flows through Rome?"


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
