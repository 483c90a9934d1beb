"""Names that stand for several neighbours: what is asked, and when an answer is believed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from mergenode.adapters.peers.membership import resolving
from mergenode.adapters.peers.membership.resolving import MOST_ADDRESSES, UNKNOWN_LOOKUPS, ResolvedName

NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
NOT_NOW = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


def followed(
    answers: list[list[str] | Exception], entry: str = "dns:nodes.example.org:50051"
) -> tuple[list[list[str]], list[tuple[str, str]], ResolvedName]:
    """Every change of the addresses, what was logged, and the name, once the answers are used up."""
    left: Iterator[list[str] | Exception] = iter(answers)
    changes: list[list[str]] = []
    said: list[tuple[str, str]] = []

    async def resolve(host: str, port: int) -> list[str]:
        answer = next(left, None)
        if answer is None:
            raise asyncio.CancelledError
        if isinstance(answer, Exception):
            raise answer
        return answer

    name = ResolvedName(entry, resolve, lambda level, text: said.append((level, text)))

    async def story() -> None:
        with pytest.raises(asyncio.CancelledError):
            await name.run(lambda: changes.append(list(name.addresses)), seconds=0.0)

    asyncio.run(story())
    return changes, said, name


def test_addresses_that_come_and_go_are_told_and_logged() -> None:
    changes, said, name = followed([["a:1"], ["a:1"], ["a:1", "b:1"], ["b:1"]])
    assert changes == [["a:1"], ["a:1", "b:1"], ["b:1"]]
    assert [text.partition(": ")[2] for _, text in said] == ["a:1 is new", "b:1 is new", "a:1 is gone"]
    assert name.name == "nodes.example.org"


def test_more_addresses_than_are_taken_are_no_change_each_time() -> None:
    many = [f"n{number}:1" for number in range(MOST_ADDRESSES + 9)]
    changes, said, _ = followed([many, many])
    assert changes == [many[:MOST_ADDRESSES]] and len(said) == 1


@pytest.mark.parametrize(
    ("trouble", "kept"),
    [
        ([NO_NAME] * (UNKNOWN_LOOKUPS - 1), True),
        ([NO_NAME] * UNKNOWN_LOOKUPS, False),
        ([NOT_NOW] * 5 * UNKNOWN_LOOKUPS, True),
        ([TimeoutError()] * 5 * UNKNOWN_LOOKUPS, True),
        ([NO_NAME, NOT_NOW] * UNKNOWN_LOOKUPS, True),
        ([*[NO_NAME] * (UNKNOWN_LOOKUPS - 1), ["a:1"], *[NO_NAME] * (UNKNOWN_LOOKUPS - 1)], True),
        ([UnicodeError("label empty or too long")] * UNKNOWN_LOOKUPS, True),
    ],
    ids=["unknown for a while", "unknown for long", "away", "slow", "unknown and away", "known between", "no name"],
)
def test_a_name_server_that_is_away_changes_nothing_and_a_name_that_is_gone_does(
    trouble: list[list[str] | Exception], kept: bool
) -> None:
    changes, said, name = followed([["a:1"], *trouble])
    assert name.addresses == (["a:1"] if kept else []) and changes[0] == ["a:1"]
    assert [level for level, _ in said].count("warning") in (1, 2), "once for each time that it began"


def test_certificates_are_for_the_name_without_what_only_a_look_up_needs() -> None:
    for entry, name in (
        ("dns:nodes.example.org.:1", "nodes.example.org"),
        ("dns:10.0.0.1:1", "10.0.0.1"),
        ("dns:[::1]:1", "::1"),
    ):
        assert followed([], entry)[2].name == name


def test_the_system_is_asked_for_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    def getaddrinfo(host: str, port: int, *rest: Any, **more: Any) -> list[Any]:
        asked.append((host, port))
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.2", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port)),
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fd00::1", port, 0, 0)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    found = asyncio.run(resolving.resolve("nodes.example.org", 50051))
    assert found == ["10.0.0.1:50051", "10.0.0.2:50051", "[fd00::1]:50051"]
    assert asked == [("nodes.example.org", 50051)]
