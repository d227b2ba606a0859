"""Self-made text: continuous batching against one token at a time, questions that stand alone, runs that go on."""

import json
import random

import pytest
import torch

from blockrag.generate import end_tokens
from tests.tiny import tiny_model, tiny_tokenizer
from training.distill.generation import BatchDecoder, Request
from training.distill.selfmade import MOST_MIXED, Maker, Outline, SelfMadeConfig, _job, clean, outline


def slow(model, request):
    """The same greedy answers, each token by a pass over everything before it."""
    ids, answers, ends = list(request.prompt_ids), [], end_tokens(model)
    for following in [*request.further, None]:
        answers.append([])
        while (token := int(model.network(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())) not in ends:
            if len(answers[-1]) == request.most:
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

    requests = [Request(i, ids(draw.randrange(5, 40)), [ids(4), ids(3)], most=6) for i in range(11)]
    found = {each.key: (each.answers, each.complete) for each in BatchDecoder(model, 4, 256).complete(requests)}
    assert found == {request.key: slow(model, request) for request in requests}
    assert {complete for _, complete in found.values()} == {True, False}, "both ends must occur"


def test_a_request_that_does_not_fit_is_refused():
    decoder = BatchDecoder(tiny_model(tokenizer=tiny_tokenizer()), 2, 512)
    with pytest.raises(ValueError, match="a row holds 512"):
        list(decoder.complete([Request(0, [5] * 500, most=20)]))


def test_drawn_answers_follow_the_distribution():
    model = tiny_model(tokenizer=tiny_tokenizer())
    prompt = [5, 6, 7]
    logits = model.network(torch.tensor([prompt])).logits[0, -1].detach().float()
    requests = [Request(i, prompt, most=1, temperature=1.0) for i in range(600)]
    said = [c.answers[0][0] if c.answers[0] else 2 for c in BatchDecoder(model, 64, 64).complete(requests)]
    likely = int(logits.argmax())
    expected = float(logits.softmax(-1)[likely])
    assert said.count(likely) / 600 == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 600) ** 0.5)


@pytest.mark.parametrize(
    ("said", "question"),
    [
        ('Question: "Who built the mill at Arden?"', "Who built the mill at Arden?"),
        ("\n\n**What is a block sink?**\nIt is ...", "What is a block sink?"),
        ("What does this passage say about mills?", ""),
        ("Why?", ""),
        ("", ""),
    ],
)
def test_questions_are_cleaned(said, question):
    assert clean(said) == question


def test_a_conversation_keeps_only_answered_turns():
    tokenizer = tiny_tokenizer()
    maker = Maker(
        tiny_model(tokenizer=tokenizer), SelfMadeConfig(max_tokens=64, answer_tokens=4, rows=2, turns=(1, 2), unsaid=0)
    )
    made = Outline(0, "tides", ["The mill stands at Arden.", "It was built twice."], [("given", "Where is the mill?")])
    made.questions.append(("whole", "What are these documents about?"))
    (line,) = maker.make([made])
    assert line["blocks"] == made.blocks and 1 <= len(line["turns"]) <= 2
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
        assert number == index and asked is None and 6 <= len(rows) <= MOST_MIXED
        made = outline(index, asked, rows, tiny_tokenizer(), config)
        mills = {block.split(" stands")[0].strip() for block in made.blocks}
        assert made.source == "mixed" and len(mills) > 1
        assert sum(len(tiny_tokenizer()(block).input_ids) for block in made.blocks) <= 600
    alone = _job(0, [], texts, SelfMadeConfig(mixed=0.0, asked=0.0))
    assert len(alone[2]) == 1
