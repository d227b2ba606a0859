"""Limits per visitor and in all."""

import pytest

from storage.documents import Quota
from storage.errors import LimitError
from tests.tiny import tiny_engine
from tests.ui.serving import SECRET, answered, load_files, make_service, visitor
from ui.limits import Limits, RateLimiter


def test_a_refusal_says_the_limit_and_when_to_try_again(clock):
    limiter = RateLimiter(Limits(questions_a_minute=2, uploads_an_hour=3, n_files=2, jobs=1), clock)
    limiter.question("anna")
    limiter.question("anna")
    with pytest.raises(LimitError, match="2 questions per minute.*60 seconds"):
        limiter.question("anna")
    limiter.question("bert")
    clock.now += 61
    limiter.question("anna")
    with pytest.raises(LimitError, match="at most 2"):
        limiter.upload("anna", 3)
    limiter.upload("anna", 2)
    with pytest.raises(LimitError, match="3 files per hour"):
        limiter.upload("anna", 2)
    with limiter.job("anna"):
        with pytest.raises(LimitError, match="limit: 1"), limiter.job("anna"):
            pass
        with limiter.job("bert"):
            pass
    with limiter.job("anna"):
        pass


def test_limits_hold_in_the_handlers(tmp_path):
    limits = Limits(
        n_collections=2, quota=Quota(2, 2_000, 2_500), n_files=3, file_bytes=5_000, question_chars=50,
        questions_a_minute=2, n_collections_in_all=3,
    )  # fmt: skip
    service = make_service(tiny_engine(), tmp_path / "data", limits=limits)
    collection = visitor(service, SECRET["secret"])

    def load(**texts):
        paths = [tmp_path / f"{name}.txt" for name in texts]
        for path, text in zip(paths, texts.values(), strict=True):
            path.write_text(text)
        *_, view = load_files(collection, paths)
        return {row["name"]: row["state"] for row in view["rows"]}

    with pytest.raises(LimitError, match="at most 3"):
        load(a="a", b="b", c="c", d="d")
    states = load(a="word " * 60, big="x" * 6_000)
    assert states["a.txt"] == "ready to index" and "split it" in states["big.txt"]
    assert "characters" in load(b="word " * 360)["b.txt"]
    assert "2 documents" in load(c="one ", d="two ")["d.txt"]
    assert "50" in answered(collection, "why? " * 20).error
    service.create(collection.owner, "second")
    with pytest.raises(LimitError, match="2 collections"):
        service.create(collection.owner, "third")
    visitor(service)
    with pytest.raises(LimitError, match="too many collections"):
        visitor(service)
    service.library.close()
