"""Chat exports: turns out of every known shape, and anything else left alone."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import load
from blockrag.documents.chat import LISTS, SPEAKERS, TEXTS, turns_of_json, turns_of_jsonl


def node(parent: str | None, role: str, text: str, time: float | None = None) -> dict:
    message = {"author": {"role": role}, "content": {"content_type": "text", "parts": [text]}, "create_time": time}
    return {"parent": parent, "message": message}


CHATGPT = {
    "title": "Tides",
    "mapping": {
        "root": {"parent": None, "message": None},
        "system": node("root", "system", ""),
        "b": node("a", "assistant", "The moon.", 2),
        "a": node("system", "user", "Why tides?", 1),
        "discarded": node("a", "assistant", "No idea.", 3),
    },
}
CLAUDE = {
    "name": "Tides",
    "chat_messages": [
        {"sender": "human", "text": "Why?", "content": [{"type": "text", "text": "Why?"}]},
        {"sender": "assistant", "text": "", "content": [{"type": "thinking"}, {"type": "text", "text": "Moon."}]},
    ],
}
SLACK = [
    {"type": "message", "user": "U1", "user_profile": {"display_name": "", "real_name": "Ann Lee"}, "text": "hi"},
    {"type": "message", "user": "U2", "text": "", "files": [{"name": "map.png"}]},
    {"type": "message", "username": "bot", "text": "ho"},
    {"type": "message", "text": "The channel was renamed."},
]
TELEGRAM = {
    "name": "Harbour",
    "messages": [{"from": "Ann", "text": ["see ", {"type": "link", "text": "a.org"}, " now"]}],
}


@pytest.mark.parametrize(
    "value, text",
    [
        ([CHATGPT | {"current_node": "b"}], "# Tides\n\nuser: Why tides?\n\nassistant: The moon."),
        (CHATGPT, "# Tides\n\nuser: Why tides?\n\nassistant: The moon.\n\nassistant: No idea."),
        ([CLAUDE, CLAUDE], "\n\n".join(["# Tides\n\nhuman: Why?\n\nassistant: Moon."] * 2)),
        ({"conversations": [CLAUDE]}, "# Tides\n\nhuman: Why?\n\nassistant: Moon."),
        ([CLAUDE, {"name": "Empty", "chat_messages": []}], "# Tides\n\nhuman: Why?\n\nassistant: Moon."),
        (SLACK, "Ann Lee: hi\n\nbot: ho\n\nThe channel was renamed."),
        (TELEGRAM, "# Harbour\n\nAnn: see a.org now"),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}], "user: hi\n\nassistant: ho"),
        ([{"author": "Ann", "text": "hi\n\nyou"}], "Ann: hi\n\nyou"),
        ({"conversations": [{"from": "human", "value": "hi"}]}, "human: hi"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]}, "user: hi"),
    ],
)
def test_json_exports_become_turns(value, text):
    assert load(json.dumps(value).encode(), "c.json").text == text + "\n"


@pytest.mark.parametrize(
    "lines",
    [
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
        [{"messages": [{"role": "user", "content": "hi"}]}, {"messages": [{"role": "assistant", "content": "ho"}]}],
    ],
)
def test_lines_become_turns(lines):
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    assert load(data, "c.jsonl").text == "user: hi\n\nassistant: ho\n"


@pytest.mark.parametrize(
    "data",
    [
        b"time,Speaker,Text\n1,Ann,hi\n2,Ben,ho\n",
        b"Name;Message\nAnn;hi\nBen;ho\n",
        b'user\tmessage\n\nAnn\t"hi"\nBen\tho\nBen\t\n',
    ],
)
def test_tables_of_turns_become_turns(data):
    assert load(data, "c.csv").text == "Ann: hi\n\nBen: ho\n"


@pytest.mark.parametrize(
    "name, data",
    [
        ("a.json", '{"k": [1, 2]}'),
        ("a.json", "{broken"),
        ("a.json", "[" * 100_000),
        ("a.json", '[{"name": "PATH", "value": "/bin"}]'),
        ("a.json", '[{"messages": [{"role": "user", "content": "hi"}]}, {"settings": 1}]'),
        ("a.json", '{"messages": ["plain"]}'),
        ("a.json", "[]"),
        ("a.jsonl", '{"level": "info"}\n{"level": "error"}\n'),
        ("a.jsonl", '{"role": "user", "content": "hi"}\nnot json\n'),
        ("a.csv", "a,b\n1,2\n"),
        ("a.csv", "author,text,rating\nAnn,good,5\n"),
        ("a.csv", "user,text\nAnn,hi,more\n"),
        ("a.csv", "user,text\n"),
        ("a.csv", "user,text\nAnn," + "x" * 200_000 + "\n"),
        ("a.txt", '[{"role": "user", "content": "hi"}]'),
    ],
)
def test_data_that_is_no_chat_stays_as_it_is(name, data):
    assert load(data.encode(), name).text == data


def test_half_an_emoji_in_json_does_no_harm():
    document = load(b'[{"role": "user", "content": "cut \\ud83d"}]', "c.json")
    assert document.text == "user: cut \ufffd\n" and document.sha256


def test_a_circle_of_messages_ends():
    circle = {"a": node("b", "user", "one"), "b": node("a", "assistant", "two")}
    assert turns_of_json(json.dumps({"mapping": circle, "current_node": "a"})) == "assistant: two\n\nuser: one\n"


LEAVES = st.none() | st.integers() | st.floats() | st.text(max_size=5)
KEYS = st.sampled_from(
    [*SPEAKERS, *TEXTS, *LISTS, "mapping", "parent", "message", "current_node", "create_time", "parts"]
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=20
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_any_json_gives_turns_or_nothing(value):
    data = json.dumps(value)
    for turns in (turns_of_json(data), turns_of_jsonl(data)):
        assert turns is None or turns.strip()
