"""The OpenAI-style routes, over HTTP as any client calls them."""

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from gradio_client import Client
from starlette.requests import ClientDisconnect, Request

from storage.errors import LimitError
from tests.tiny import tiny_engine
from tests.ui.serving import TEXT, serve
from ui.openai_api import MAX_CALLS_EACH, _Calls, _EventStream

ASKED = [{"role": "user", "content": "How long is river 3?"}]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address and token of a collection with a text."""
    folder = tmp_path_factory.mktemp("openai")
    url, close = serve(tiny_engine(folder / "kv"), folder, "private")
    client = Client(url, verbose=False)
    token = client.predict("Rivers", api_name="/new_collection")["collection"]
    client.predict("rivers.md", TEXT, token, api_name="/add_text")
    yield url, token
    close()


def post(served, key: str | None = None, **body) -> tuple[int, str]:
    """Send a request; return the status and the text of the reply."""
    url, token = served
    headers = {"content-type": "application/json", "authorization": f"Bearer {key or token}"}
    request = urllib.request.Request(f"{url}v1/chat/completions", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_collection_is_asked_by_its_token(served):
    status, said = post(served, messages=ASKED, max_tokens=6, k=4, model="any")
    reply = json.loads(said)
    assert status == 200 and reply["object"] == "chat.completion"
    (choice,) = reply["choices"]
    assert choice["message"]["role"] == "assistant" and choice["message"]["content"]
    assert choice["finish_reason"] == "length" and reply["usage"]["completion_tokens"] == 6
    assert len(reply["sources"]) == 4 and reply["sources"][0]["document"] == "rivers.md"
    assert reply["usage"]["prompt_tokens_details"]["cached_tokens"] == reply["report"]["n_tokens_saved"] > 0


def test_an_answer_is_streamed(served):
    status, said = post(served, messages=ASKED, max_completion_tokens=6, k=4, stream=True)
    lines = [line.removeprefix("data: ") for line in said.split("\n\n") if line]
    assert status == 200 and lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    whole = json.loads(post(served, messages=ASKED, max_tokens=6, k=4)[1])
    assert text == whole["choices"][0]["message"]["content"] and chunks[-1]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["sources"] == whole["sources"] and {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}


def test_documents_of_the_request_are_asked_and_cached(served):
    documents = [
        {"name": "lakes.md", "text": "# Lakes\n\nThe lake is deep and cold. " * 9},
        "A text without a name. " * 9,
    ]
    first, second = (json.loads(post(served, messages=ASKED, documents=documents, max_tokens=3)[1]) for _ in range(2))
    assert {source["document"] for source in first["sources"]} == {"lakes.md", "document-2.txt"}
    assert second["report"]["kv_misses"] == 0 and second["choices"] == first["choices"]


def test_earlier_messages_and_instructions_belong_to_the_question(served):
    messages = [
        {"role": "system", "content": "Answer in one word."},
        *ASKED,
        {"role": "assistant", "content": "3 miles"},
        {"role": "user", "content": [{"type": "text", "text": "And river 5?"}]},
    ]
    alone, whole = (json.loads(post(served, messages=m, max_tokens=3)[1]) for m in (messages[-1:], messages))
    assert whole["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"] + 20


@pytest.mark.parametrize(
    "body, status, message",
    [
        ({"messages": []}, 400, "the last message must be"),
        ({"messages": "hello"}, 400, "list of messages"),
        ({"messages": ASKED, "tools": []}, 400, "tools: not supported"),
        ({"messages": ASKED, "n": 2}, 400, "one answer at a time"),
        ({"messages": ASKED, "max_tokens": 0}, 400, "max_tokens is 0"),
        ({"messages": ASKED, "temperature": -1}, 400, "temperature is -1"),
        ({"messages": ASKED, "mode": "turbo"}, 400, "'turbo'"),
        ({"messages": ASKED, "stop": 5}, 400, "stop is 5"),
        ({"messages": ASKED, "stop": ["a"] * 17}, 400, "at most 16"),
        ({"messages": ASKED, "stop": ["a" * 1_001]}, 400, "stop has 1,001 characters"),
        ({"messages": ASKED, "seed": 1 << 70}, 400, "seed is"),
        ({"messages": ASKED, "k": {}}, 400, "k is {}"),
        ({"messages": [{"role": "user", "content": "half \ud800"}]}, 400, "half of a character"),
        ({"messages": ASKED, "collection": {"a": 1}}, 404, "deleted"),
        ({"messages": ASKED, "documents": []}, 400, "documents must be a list"),
        ({"messages": ASKED, "documents": [3]}, 400, "document 1 has no text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "must be text"),
        ({"messages": ASKED, "collection": "x" * 48}, 404, "deleted"),
    ],
)
def test_what_is_not_understood_is_refused_with_a_reason(served, body, status, message):
    code, said = post(served, **body)
    assert code == status and message in json.loads(said)["error"]["message"], said


def test_nothing_is_told_without_the_token(served):
    assert post(served, key="sk-none", messages=ASKED)[0] == 404


def test_in_shared_mode_any_key_will_do(tmp_path):
    url, close = serve(tiny_engine(tmp_path / "kv"), tmp_path, "shared")
    try:
        Client(url, verbose=False).predict("rivers.md", TEXT, "", api_name="/add_text")
        assert post((url, "sk-none"), messages=ASKED, max_tokens=2)[0] == 200
        with urllib.request.urlopen(f"{url}v1/models", timeout=30) as response:
            assert [model["object"] for model in json.load(response)["data"]] == ["model"]
    finally:
        close()


def test_a_stream_whose_reader_left_before_it_began_gives_back_what_it_held():
    """Eight such streams were all that a collection may have at once, for ever."""
    given_back, held = [], ExitStack()
    held.callback(given_back.append, 1)

    async def pieces():
        yield "data: x\n\n"

    async def send(message):
        raise OSError

    async def receive():
        return {"type": "http.disconnect"}

    scope = {"type": "http", "asgi": {"spec_version": "2.4"}, "method": "POST", "path": "/", "headers": []}
    with ThreadPoolExecutor(1) as pool, contextlib.suppress(OSError, ClientDisconnect):
        pool.submit(asyncio.run, _EventStream(pieces(), held)(scope, receive, send)).result()
    assert given_back == [1]


def test_a_request_may_hold_long_documents(served):
    text = TEXT + "The harbour is far away. " * 4_000
    status, said = post(served, messages=ASKED, max_tokens=2, k=2, documents=[text])
    assert status == 200, said


def test_one_address_has_so_many_calls_at_once():
    calls, request = _Calls(None), Request({"type": "http", "headers": [], "client": ("192.0.2.1", 5)})
    with ExitStack() as held:
        for _ in range(MAX_CALLS_EACH):
            calls._count(request, held)
        with pytest.raises(LimitError, match="not answered yet"):
            calls._count(request, held)
    with ExitStack() as held:
        calls._count(request, held)
