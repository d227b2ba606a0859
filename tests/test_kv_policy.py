"""Eviction policies: one contract for all, then what is particular to each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blockrag.kv.policy import LRU, SegmentedLRU

POLICIES = (LRU, SegmentedLRU)


@pytest.fixture(params=POLICIES)
def policy(request):
    return request.param()


@pytest.mark.parametrize("make", POLICIES)
@given(steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abcdef")), max_size=60))
def test_it_holds_what_was_touched_and_not_forgotten(make, steps):
    policy, known = make(), set()
    for touched, key in steps:
        (policy.touch if touched else policy.forget)(key)
        (known.add if touched else known.discard)(key)
        assert sorted(policy) == sorted(known)
        assert policy.victim() == next(iter(policy), None)


def test_who_is_spared_is_no_victim(policy):
    for key in "abc":
        policy.touch(key)
    first, second, _ = policy
    assert policy.victim(spared={first}) == second and policy.victim(spared=set("abc")) is None


def test_what_was_just_touched_is_not_next(policy):
    for key in "abc":
        policy.touch(key)
    policy.touch("a")
    assert policy.victim() == "b"


def test_a_scan_does_not_push_out_what_is_used_again():
    policy = SegmentedLRU()
    for key in ("one", "two", "three", "hot", "warm", "hot", "warm"):
        policy.touch(key)
    kept = set(policy)
    for i in range(100):
        policy.touch(f"scan {i}")
        kept.add(f"scan {i}")
        if len(kept) > 5:
            victim = policy.victim()
            policy.forget(victim)
            kept.discard(victim)
    assert {"hot", "warm"} <= kept


def test_the_protected_share_is_kept_to():
    policy = SegmentedLRU(protected=0.5)
    for key in "abcd" * 3:
        policy.touch(key)
    assert len(policy._again) == 2 and list(policy)[-1] == "d"
