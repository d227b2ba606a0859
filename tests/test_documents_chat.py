"""Chat exports: turns out of every known shape, and anything else left alone."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blockrag.documents import load
from blockrag.documents.chat import LISTS, SPEAKERS, TEXTS, turns_of_json, turns_of_jsonl
from blockrag.segment.records import record_starts
from tests.document_files import FIELD


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
        (SLACK, "Ann Lee: hi\n\nU2: [file: map.png]\n\nbot: ho\n\nThe channel was renamed."),
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


# The field


def test_discord_keeps_embeds_and_file_names():
    assert load(FIELD / "c10_discord.json").text == (
        "[2024-03-01 10:00] skipper_k: The regatta moves to Sunday.\n\n[2024-03-01 10:01] bosun: [file: map.png]\n\n"
        "[2024-03-01 10:02] bosun: Bring two life vests\neach.\nForecast\nWind 12 knots from the west\n"
    )


def test_claude_keeps_attachments_and_artifacts():
    text = load(FIELD / "c22_claude.json").text
    for kept in (
        "human: Summarise this\n[file: paste.txt]\nThe raft holds six persons.\n[file: a.png]",
        "# Raft\nCapacity six",
    ):
        assert kept in text
    assert text.endswith("human: [file: b.txt]\nOnly an attachment: the mast is nine metres.\n")


def test_chatgpt_keeps_every_turn_of_the_branch_and_no_citation_marks():
    text = load(FIELD / "c33_chatgpt.json").text
    for kept in (
        "user: [image]\nWhich knot is this?",
        "print('bowline')",
        "tool: bowline",
        "It is a bowline.\n",
        "I sail\nBe brief",
    ):
        assert kept in text
    assert "DISCARDED" not in text and not any("\ue200" <= c <= "\ue20f" for c in text)


def test_slack_is_read_as_its_reader_sees_it():
    text = load(FIELD / "c34_slack.json").text
    assert "Ida Berg: @U02 the dredger is late, see notice (https://x.example) & call" in text
    assert "tidebot: Tide\nHigh 06:12" in text and "U02: ok\n[file: map.pdf]" in text
    messages = [
        {"type": "message", "user": "U1", "user_profile": {"real_name": "Ann"}, "text": "hi", "ts": "1700000000.1"},
        {"type": "message", "user": "U2", "text": "<@U1> in <#C1|harbour> &lt;b&gt;", "ts": "1700000060.1"},
        {"type": "message", "user": "U1", "text": "", "ts": "1700000120.1",
         "blocks": [{"type": "rich_text", "elements": [{"elements": [{"type": "text", "text": "from blocks"}]}]}]},
    ]  # fmt: skip
    assert load(json.dumps(messages).encode(), "s.json").text == (
        "[2023-11-14 22:13] Ann: hi\n\n[2023-11-14 22:14] U2: @Ann in #harbour <b>\n\n[2023-11-14 22:15] Ann: from blocks\n"
    )


def test_whatsapp_keeps_every_turn_and_begins_blocks_at_turns():
    document = load(FIELD / "c11_whatsapp.txt")
    starts = record_starts(document.text, document.media_type)
    assert len(starts) == 65 and "It has two beds\nand a stove." in document.text


def test_times_of_a_table_are_kept():
    assert load(FIELD / "c16_chat.csv").text == "[2024-01-01] Ida: Line one\nline two\n\n[2024-01-02] Per: ok\n"


def test_numbers_of_any_length_do_no_harm():
    data = '{"id": %s, "messages": [{"role": "user", "content": "hi"}]}' % ("9" * 100_000)
    assert load(data.encode(), "c.json").text == "user: hi\n"
    assert load(('{"n": %s, "x": NaN}' % ("9" * 100_000)).encode(), "c.json").text.startswith('{"n": 999')


@pytest.mark.parametrize("message, turn", [
    ({"from": "Ann", "text": "", "file": "files/a/map.pdf"}, "Ann: [file: map.pdf]"),
    ({"from": "Ann", "text": "", "poll": {"question": "When?", "answers": [{"text": "Now"}, {"text": "Never"}]}}, "Ann: When?\n- Now\n- Never"),
    ({"from": "Ann", "text": "hi", "date": "2023-05-05T15:48:11"}, "[2023-05-05 15:48] Ann: hi"),
    ({"role": "user", "content": "hi", "metadata": {"attachments": [{"name": "a.pdf"}]}}, "user: hi\n[file: a.pdf]"),
    ({"role": "assistant", "content": "So【4:1†source】 it is."}, "assistant: So it is."),
    ({"author": "x", "text": "", "embeds": [{"title": "T", "fields": [{"name": "a", "value": "b"}]}]}, "x: [file: T]\na: b"),
    ({"author": "x", "text": "", "attachments": [{"fallback": "only this"}]}, "x: only this"),
])  # fmt: skip
def test_what_else_a_turn_carries(message, turn):
    assert load(json.dumps([message]).encode(), "c.json").text == turn + "\n"


def test_turns_that_carry_no_text_keep_what_they_carry():
    call = {"function": {"name": "tides", "arguments": '{"port": "Alda"}'}}
    messages = [{"role": "user", "content": "When?"}, {"role": "assistant", "content": None, "tool_calls": [call]}]
    assert load(json.dumps(messages).encode(), "a.json").text == 'user: When?\n\nassistant: [tides]\n{"port": "Alda"}\n'
    chat = {
        "messages": [
            {"from": "Ida", "text": "", "sticker_emoji": "⚓"},
            {"from": "Per", "text": "x", "forwarded_from": "Bo"},
        ]
    }
    assert load(json.dumps(chat).encode(), "a.json").text == "Ida: [sticker ⚓]\n\nPer: x\n[forwarded from Bo]\n"


def test_blocks_of_slack_are_read_as_its_text():
    parts = [
        {"type": "text", "text": "see "},
        {"type": "link", "url": "https://a.b", "text": "it"},
        {"type": "user", "user_id": "U1"},
    ]
    blocks = [{"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": parts}]}]
    people = {
        "type": "message",
        "ts": "1709546400.1",
        "user": "U1",
        "user_profile": {"real_name": "Ida"},
        "text": "a &amp; b",
    }
    messages = [people, {**people, "text": "", "blocks": blocks}]
    assert load(json.dumps(messages).encode(), "a.json").text.endswith("Ida: see it (https://a.b)@Ida\n")
