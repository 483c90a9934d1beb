from __future__ import annotations

import os
import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.registries import names


@pytest.mark.parametrize(
    "name", [".hidden", "x.tmp", "x.partial", "x.incomplete", "x.part", "x.downloading", "X.PART", "x.aria2"]
)
def test_names_in_progress(name: str) -> None:
    assert names.is_in_progress(name)


@pytest.mark.parametrize("name", ["x", "model.safetensors", "part", "tmp", "x.tmp.safetensors", "depart"])
def test_finished_names(name: str) -> None:
    assert not names.is_in_progress(name)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from(["a", "..", ".", "", "b.json", "/", "c\\d", "\n", "\x00", "é"]), max_size=5))
def test_a_plain_relative_path_never_leaves_its_directory(parts: list[str]) -> None:
    path = "/".join(parts)
    if names.is_plain_relative(path):
        assert posixpath.normpath(posixpath.join("/root", path)).startswith("/root/")
        assert posixpath.normpath(path) == path


@settings(deadline=None, max_examples=200)
@given(st.binary(min_size=1, max_size=40))
def test_any_file_name_becomes_printable(raw: bytes) -> None:
    shown = names.printable(os.fsdecode(raw))
    assert shown.isprintable()
    shown.encode("utf-8")


def test_printable_leaves_ordinary_names_alone() -> None:
    assert names.printable("naïve 名前-v2.safetensors") == "naïve 名前-v2.safetensors"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "a\udcff", "x" * 256, "\u202etxt", "é" * 128])
def test_names_that_are_not_plain(name: str) -> None:
    assert not names.is_plain(name)


def test_shard_families() -> None:
    assert names.shard_family("model.safetensors") is None
    assert names.shard_family("model-1-of-2.safetensors") is None
    family = names.shard_family("a-b-00003-of-00004.safetensors")
    assert family == ("a-b", 4)
    assert list(names.shards_of(family))[2] == "a-b-00003-of-00004.safetensors"
