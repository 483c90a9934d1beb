"""Patterns of adapters: the same modules as peft's rule, in bounded time."""

from __future__ import annotations

import re
import resource

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.checkpoints.module_pattern import ModulePattern, UnsafePattern

MODULES = ["model.layers.0.self_attn.q_proj", "model.layers.10.self_attn.q_proj", "q_proj", "model.xq_proj", "q_projx"]
ADMITTED = [
    "q_proj", "self_attn.q_proj", "0.self_attn.q_proj", "^model.layers.0.self_attn.q_proj", "^q_proj", "q.proj",
    r".*\.(0|1)\.self_attn\.q_proj", r"layers\.\d+\.self_attn\.q_proj", r"layers\.[0-9]\..*", "q_proj|k_proj",
    "(?:q|k)_proj", ".*", r"model\.x?q_proj",
]  # fmt: skip


@pytest.mark.parametrize("key", ADMITTED)
def test_matches_what_peft_matches(key: str) -> None:
    pattern = ModulePattern(key)
    for module in MODULES:
        assert pattern.matches(module) == bool(re.match(rf"(.*\.)?({key})$", module)), module


@pytest.mark.parametrize(
    "key",
    ["(a+)+b", "(a|aa)+", "(a|a)(a|a)", "a*a*a*b", "a?a?a?", r"(\w+\\)+", "([)]|a|aa)*b", r"(?=a)b", r"(?P<n>a)",
     r"(a)\1", "(?i)a", "[", "(", "[[a]", "[a--b]",
     "a{2,1}", "", "a" * 513, "(a|b)|c", "a{1}{2}{3}", r"((a|b)|c)", "a**"],
)  # fmt: skip
def test_the_rest_is_not_admitted(key: str) -> None:
    with pytest.raises(UnsafePattern):
        ModulePattern(key)


@given(st.text(alphabet=r"a.*+?|()[]{}\^$1,", max_size=14))
@settings(deadline=None, max_examples=500)
def test_whatever_is_admitted_is_quick(key: str) -> None:
    try:
        pattern = ModulePattern(key)
    except UnsafePattern:
        return
    before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
    pattern.matches("a" * 60 + "!")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_utime - before < 5, "a bad pattern would take years"
