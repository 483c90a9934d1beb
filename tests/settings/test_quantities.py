"""Sizes and addresses as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.settings import parse_size
from mergenode.settings.quantities import parse_address, split_address


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GiB", 2 << 30),
        ("2 gib", 2 << 30),
        ("4GB", 4 * 10**9),
        ("1.5KiB", 1536),
        ("512", 512),
        ("7B", 7),
        (0, 0),
        ("1TiB", 1 << 40),
    ],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "GiB", "-1GiB", "1 GiB x", "1e3MB", "2Gi", True, None, 1.5, -1, [], "9" * 40, 1 << 63]
)
def test_not_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="512MiB"):
        parse_size(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**52), st.sampled_from([("KiB", 10), ("MiB", 20), ("GiB", 30)]))
def test_binary_units_are_exact_shifts(count: int, unit: tuple[str, int]) -> None:
    name, bits = unit
    if count << bits < 1 << 63:
        assert parse_size(f"{count}{name}") == count << bits


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("localhost:65535", ("localhost", 65535)),
    ],
)
def test_addresses(text: str, parts: tuple[str, int]) -> None:
    assert parse_address(text) == text and split_address(text) == parts


@pytest.mark.parametrize(
    "text", ["", "9464", ":9464", "host", "host:", "::1:80", "host:65536", "host:-1", "host:٣", 9464, []]
)
def test_not_addresses(text: object) -> None:
    with pytest.raises(ValueError, match="host:port"):
        parse_address(text)
