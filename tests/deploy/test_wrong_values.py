"""Every value of the chart, wrong at once: real Helm 3 and 4 refuse each by its full name. Skipped without Helm."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.tools.binaries import binary
from deploy.tools.manifests import CHART
from deploy.tools.values_schema import values_schema

SCHEMA = values_schema()
WRONG: dict[str, object] = {"array": ["a list"], "string": "a text", "boolean": True}
"""A value of each of three types, of which no value of the chart allows all."""


@pytest.fixture(params=["helm3", "helm4"])
def helm(request: pytest.FixtureRequest) -> Path:
    path = binary(request.param)
    if path is None:
        pytest.skip(f"no {request.param}: `make deploy-tools` fetches it")
    return path


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A section itself, where something refers to it or allows null as well."""
    while True:
        if "$ref" in schema:
            schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
            continue
        others = [each for each in schema.get("anyOf", []) if "$ref" in each]
        if len(others) != 1:
            return schema
        schema = others[0]


def sections(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every closed object."""
    schema = resolved(schema)
    if schema.get("additionalProperties") is False:
        yield path
    for name, each in schema.get("properties", {}).items():
        yield from sections(each, (*path, name))


def types(schema: dict[str, Any]) -> set[str]:
    """That the value may have."""
    own = schema.get("type", [])
    return {own} if isinstance(own, str) else set(own).union(*map(types, schema.get("anyOf", [])))


def leaves(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], object]]:
    """Every value with nothing below it, and something that it cannot be."""
    schema = resolved(schema)
    if "properties" not in schema:
        yield path, next(value for kind, value in WRONG.items() if kind not in types(schema))
    for name, each in schema.get("properties", {}).items():
        yield from leaves(each, (*path, name))


def refusal(helm: Path, folder: Path, wrong: dict[tuple[str, ...], object]) -> str:
    values: dict[str, Any] = {}
    for path, value in wrong.items():
        place = values
        for section in path[:-1]:
            place = place.setdefault(section, {})
        place[path[-1]] = value
    file = folder / "values.yaml"
    file.write_text(json.dumps(values), encoding="utf-8")
    command = [helm, "template", "m", CHART, "-f", file]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode != 0 and not done.stdout
    return done.stderr


def test_a_wrong_type_is_refused_by_the_full_name_of_the_value(helm: Path, tmp_path: Path) -> None:
    wrong = dict(leaves(SCHEMA))
    assert len(wrong) > 150
    told = refusal(helm, tmp_path, wrong)
    unnamed = [path for path in wrong if f"- {'.'.join(path)}: " not in told and f"'/{'/'.join(path)}': " not in told]
    assert unnamed == []


def test_an_unknown_key_is_refused_by_its_name_and_section(helm: Path, tmp_path: Path) -> None:
    places = list(sections(SCHEMA))
    assert len(places) > 40
    told = refusal(helm, tmp_path, {(*path, f"unknown{number}"): 1 for number, path in enumerate(places)})
    lines = told.splitlines()
    for number, path in enumerate(places):
        here = [line for line in lines if f"unknown{number} " in line or f"'unknown{number}'" in line]
        assert here and any(".".join(path) in line or "/".join(path) in line for line in here), path
