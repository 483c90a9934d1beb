"""values.schema.json follows from the settings model, and values.yaml shows what it allows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.tools.values_schema import OWNED, TARGET, VARIABLE, as_text, values_schema
from mergenode import __version__
from mergenode.settings.names import setting_names
from tests.support.manifests import ROOT

CHART = ROOT / "deploy/helm/mergenode"
SCHEMA = values_schema()
VALUES = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))
FREE = {"config", "global"}
"""Whose keys values.yaml does not list: those of node.yaml, and of other charts."""


def test_the_schema_is_the_one_that_the_settings_make() -> None:
    """After a change of settings: ``python -m deploy.tools.values_schema``."""
    assert TARGET.read_text(encoding="utf-8") == as_text()


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """A section without the reference to it."""
    while "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rpartition("/")[2]]
    return schema


def paths(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings below one section, those of every method together."""
    schema = resolved(schema)
    branches = [each["then"] for each in schema.get("allOf", [])] + schema.get("anyOf", [])
    items = [schema["items"]] if isinstance(schema.get("items"), dict) else []
    if isinstance(schema.get("properties"), dict) and not schema.get("allOf"):
        for name, each in schema["properties"].items():
            below = list(paths(each, f"{prefix}{name}."))
            yield from below or [f"{prefix}{name}"]
    for each in branches:
        yield from paths(each, prefix)
    for each in items:
        yield from paths(each, f"{prefix.removesuffix('.')}[].")


def test_every_setting_is_a_value_or_follows_from_one() -> None:
    ours = {
        *("node.name", "node.state", "base", "registries", "http.listen", "publish.path", "peers.listen"),
        *("peers.advertise", "peers.neighbours", "peers.insecure", "peers.tokens.keys", "peers.tokens.listen"),
        *("peers.tls.certificate", "peers.tls.key", "peers.tls.authority"),
    }
    wanted = {re.sub(r" \(.*\)$", "", name) for name in setting_names()}
    wanted = {name for name in wanted if not name.startswith("registries[]")} - ours
    wanted -= {name.partition("[]")[0] for name in wanted if "[]" in name}
    assert set(paths(SCHEMA["properties"]["config"])) == wanted
    assert set(OWNED) <= {"Settings", *SCHEMA["definitions"]}


def test_registries_take_the_settings_of_registries() -> None:
    below = SCHEMA["properties"]["registries"]["items"]["properties"]["settings"]
    assert set(below["properties"]) == {"settle_seconds", "settle_polls", "poll_seconds"}


def differences(values: object, schema: dict[str, Any], where: str = "") -> Iterator[str]:
    """Keys that values.yaml and the schema do not have in common."""
    if not isinstance(values, dict) or "properties" not in schema:
        return
    known = set(schema["properties"])
    yield from (f"{where}{name}" for name in known ^ set(values) if name not in FREE)
    for name in known & set(values) - FREE:
        yield from differences(values[name], schema["properties"][name], f"{where}{name}.")


def test_values_and_schema_have_the_same_keys() -> None:
    assert list(differences(VALUES, SCHEMA)) == []


def test_every_object_of_the_schema_is_closed() -> None:
    def walk(node: object, where: str) -> Iterator[str]:
        if isinstance(node, dict):
            if isinstance(node.get("properties"), dict) and "allOf" not in node and not where.endswith(".if"):
                yield from [] if node.get("additionalProperties") is False else [where]
            for name, each in node.items():
                yield from walk(each, f"{where}.{name}")
        elif isinstance(node, list):
            for number, each in enumerate(node):
                yield from walk(each, f"{where}.{number}")

    assert list(walk(SCHEMA, "")) == []


@pytest.mark.parametrize(
    ("section", "name", "good", "bad"),
    [
        ("LogSettings", "format", ["json", "${FORMAT}"], ["xml", "json "]),
        ("EngineSettings", "memory_limit", ["2GiB", "${MEMORY}"], ["2GX"]),
        ("PublishSettings", "keep", ["${KEEP:-5}"], ["5", "many"]),
    ],
)
def test_plain_values_may_be_variables(section: str, name: str, good: list[str], bad: list[str]) -> None:
    pattern = SCHEMA["definitions"][section]["properties"][name]["pattern"]
    assert all(re.search(pattern, text) for text in good)
    assert not any(re.search(pattern, text) for text in bad)
    assert pattern.count(VARIABLE) == 1


def test_the_chart_has_the_version_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert str(chart["appVersion"]) == __version__


@pytest.mark.parametrize("path", sorted(CHART.glob("templates/**/*.yaml")), ids=lambda path: path.name)
def test_templates_end_with_a_newline_and_hold_no_tabs(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n") and "\t" not in text
