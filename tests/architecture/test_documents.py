"""What the documents name exists: tests, files, packages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
TESTS = {
    path.relative_to(ROOT).as_posix(): set(re.findall(r"^ *def (test_\w+)", path.read_text(encoding="utf-8"), re.M))
    for path in ROOT.glob("tests/**/test_*.py")
}
EVERY_TEST = {name for names in TESTS.values() for name in names}

document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())


def text_of(path: Path) -> str:
    """A document without its fenced blocks: examples name files of their own."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


@document
def test_named_tests_exist(path: Path) -> None:
    text = text_of(path)
    placed = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert [(file, name) for file, name in placed if name not in TESTS.get(file, ())] == []
    assert [name for name in re.findall(r"`(test_\w+)`", text) if name not in EVERY_TEST] == []


@document
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(path)):
        file, _, heading = target.partition("#")
        if "://" in file:
            continue
        place = path.parent / file if file else path
        assert place.exists(), target
        assert not heading or heading in set(headings(place)), target


@document
def test_named_files_of_the_package_exist(path: Path) -> None:
    for file in re.findall(r"`((?:tests|benchmarks|configs|docs)/[\w./-]+\.\w+)`", text_of(path)):
        placeholder = "NAME" in file or "NNNN" in file
        assert placeholder or (ROOT / file).exists(), file


def test_the_code_map_names_every_package() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    mapped = {name.rstrip("/") for name in re.findall(r"`([\w/]+/)`", text)}
    inits = ROOT.glob("mergenode/**/__init__.py")
    packages = {path.parent.relative_to(ROOT / "mergenode").as_posix() for path in inits}
    lowest = {package for package in packages if not any(other.startswith(f"{package}/") for other in packages)}
    assert lowest - {"."} <= mapped


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in sorted(ROOT.glob("docs/adr/*.md"))]
    assert numbers == list(range(1, len(numbers) + 1))


def headings(path: Path) -> Iterator[str]:
    """The anchors of a document's headings."""
    for heading in re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.M):
        yield re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
