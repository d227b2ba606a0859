"""Self-made text: continuous batching against plain decoding, extracted questions, interrupted runs."""

import json
import random

import pytest
import torch

from blockrag.generate import end_tokens
from tests.tiny import tiny_model, tiny_tokenizer
from training.distill.generation import BatchDecoder, Request
from training.distill.selfmade import (
    MAX_MIXED,
    ConversationWriter,
    Plan,
    SelfMadeConfig,
    _job,
    extract_question,
    make_plan,
)


def slow(model, request):
    """Greedy answers without a cache, one token at a time."""
    ids, answers, ends = list(request.prompt_ids), [], end_tokens(model)
    for following in [*request.follow_ups, None]:
        answers.append([])
        while (token := int(model.network(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())) not in ends:
            if len(answers[-1]) == request.max_new_tokens:
                return answers, False
            answers[-1].append(token)
            ids.append(token)
        ids += [token, *(following or [])]
    return answers, True


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_rows_decoded_together_say_what_each_says_alone(family):
    model, draw = tiny_model(family, tokenizer=tiny_tokenizer()), random.Random(0)
    model.network.generation_config.eos_token_id = list(range(2, 80))  # random weights end answers now and then

    def ids(n):
        return [draw.randrange(3, 300) for _ in range(n)]

    requests = [Request(i, ids(draw.randrange(5, 40)), [ids(4), ids(3)], max_new_tokens=6) for i in range(11)]
    found = {each.key: (each.answers, each.complete) for each in BatchDecoder(model, 4, 256).complete(requests)}
    assert found == {request.key: slow(model, request) for request in requests}
    assert {complete for _, complete in found.values()} == {True, False}, "both ends must occur"


def test_a_request_that_does_not_fit_is_refused():
    decoder = BatchDecoder(tiny_model(tokenizer=tiny_tokenizer()), 2, 512)
    with pytest.raises(ValueError, match="a row holds 512"):
        list(decoder.complete([Request(0, [5] * 500, max_new_tokens=20)]))


def test_drawn_answers_follow_the_distribution():
    model = tiny_model(tokenizer=tiny_tokenizer())
    prompt = [5, 6, 7]
    logits = model.network(torch.tensor([prompt])).logits[0, -1].detach().float()
    requests = [Request(i, prompt, max_new_tokens=1, temperature=1.0) for i in range(600)]
    said = [c.answers[0][0] if c.answers[0] else 2 for c in BatchDecoder(model, 64, 64).complete(requests)]
    likely = int(logits.argmax())
    expected = float(logits.softmax(-1)[likely])
    assert said.count(likely) / 600 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 600) ** 0.5)


@pytest.mark.parametrize(
    ("output", "question"),
    [
        ('Question: "Who built the mill at Arden?"', "Who built the mill at Arden?"),
        ("\n\n**What is a block sink?**\nIt is ...", "What is a block sink?"),
        ("What does this passage say about mills?", ""),
        ("Why?", ""),
        ("", ""),
    ],
)
def test_questions_are_cleaned(output, question):
    assert extract_question(output) == question


def test_a_conversation_keeps_only_answered_turns():
    tokenizer = tiny_tokenizer()
    writer = ConversationWriter(
        tiny_model(tokenizer=tokenizer),
        SelfMadeConfig(max_tokens=64, answer_tokens=4, rows=2, turns=(1, 2), unanswerable=0),
    )
    plan = Plan(0, "tides", ["The mill stands at Arden.", "It was built twice."], [("given", "Where is the mill?")])
    plan.questions.append(("whole", "What are these documents about?"))
    (line,) = writer.write([plan])
    assert line["blocks"] == plan.blocks and 1 <= len(line["turns"]) <= 2
    assert all(turn["answer"] for turn in line["turns"])
    assert all(turn["complete"] for turn in line["turns"][:-1]), "an answer that was cut off is the last"
    json.dumps(line)


def test_mixed_conversations_have_passages_of_many_documents():
    texts = [
        {"dataset": f"s{i % 2}", "text": f"Mill {i} stands at Arden. " * 60, "boundaries": [], "headings": []}
        for i in range(12)
    ]
    config = SelfMadeConfig(mixed=1.0, asked=0.0, max_tokens=600)
    for index in range(5):
        number, asked, rows = _job(index, [], texts, config)
        assert number == index and asked is None and 6 <= len(rows) <= MAX_MIXED
        plan = make_plan(index, asked, rows, tiny_tokenizer(), config)
        mills = {block.split(" stands")[0].strip() for block in plan.blocks}
        assert plan.source == "mixed" and len(mills) > 1
        assert sum(len(tiny_tokenizer()(block).input_ids) for block in plan.blocks) <= 600
    alone = _job(0, [], texts, SelfMadeConfig(mixed=0.0, asked=0.0))
    assert len(alone[2]) == 1
