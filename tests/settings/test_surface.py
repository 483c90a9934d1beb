"""The surface of the settings: deliberate names, with unit, default and reason, shown in configs/."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from pathlib import Path

import pytest

from mergenode.errors import UsageError
from mergenode.settings import METHOD_SECTIONS, load_settings, method_options, parse_settings
from mergenode.settings.document import dotted, read_document
from mergenode.settings.names import setting_names, settings_fields

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/settings.txt"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def test_settings_names_equal_the_golden_list() -> None:
    """A new setting is a promise: add it to the list on purpose, with a line in CHANGELOG.md."""
    assert [name for name, _ in settings_fields()] == GOLDEN.read_text().split("\n")[:-1]


@pytest.mark.parametrize(("name", "field"), [*settings_fields()], ids=[name for name, _ in settings_fields()])
def test_every_setting_states_unit_default_and_reason(name: str, field) -> None:
    match = re.fullmatch(r"(.+[.]) Unit: (.+)[.] Default: (.+), because (.+)[.]", field.description)
    assert match is not None, name
    default = {None: "null", "": '""'}.get(field.default, str(field.default))
    default = default.lower() if isinstance(field.default, bool) else default
    default = f"[{', '.join(field.default)}]" if isinstance(field.default, tuple) else default
    assert match[3] == ("none, it must be given" if field.is_required() else default)
    assert len(match[4].split()) >= 4, "a reason is a clause"


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_example_configs_load(path: Path) -> None:
    assert load_settings(path, {}).base.is_absolute()


def test_the_complete_example_mentions_every_setting_with_its_default() -> None:
    path = ROOT / "configs/all-settings.yaml"
    text = path.read_text()
    written = {re.sub(r"\[\d+\]", "[]", dotted(where)) for where in read_document(path, {}).lines}
    commented = {f"method.{key}" for key in re.findall(r"^  # (\w+):", text, re.MULTILINE)}
    assert set(setting_names()) <= written | commented
    loaded, minimal = load_settings(path, {}), load_settings(ROOT / "configs/single-node.yaml", {})
    for section in ("publish", "http", "engine", "validation", "task", "log", "shutdown"):
        assert getattr(loaded, section) == getattr(minimal, section), "examples show the defaults"


@pytest.mark.parametrize("name", METHOD_SECTIONS)
def test_method_options_equal_the_factory(name: str) -> None:
    from mergenode.methods import METHODS

    parameters = inspect.signature(METHODS[name]).parameters
    assert method_options(name) == set(parameters)
    for option, field in METHOD_SECTIONS[name].model_fields.items():
        if option != "name" and field.default is not None:
            assert field.default == parameters[option].default


VALUES: Mapping[str, Sequence[object]] = {
    "scale": ["norm_match", -1e6, 1e7],
    "profile": [{"*": 1e6}, {"": 1}, {"*": 1e7}, {}],
    "exclude": [["*"], [""], []],
    "include": [["*"], [""], []],
    "alpha": [0, 0.5, 1],
    "variant": ["paper", "none"],
    "rank_share": [0.1, 1, 2, 3],
    "rank": ["equal", "adaptive"],
    "merge": ["decorrelate", "agree"],
    "outlier_clip": [0, 3, -1],
    "time": [1e-9, 1e30, 0],
    "ratio": [1, 0.1, 1.1],
    "sides": ["both", "input"],
    "width_limit": [0, 10**9, -1],
    "density": [1, 0.1, 0],
    "drop": [0, 0.9, 1],
    "threshold": [0, 1e9, -1],
    "calibration": [0, 1e9, -1],
    "floor": [1e-30, 1, 0],
    "normalise": [True, False],
    "off_diagonal": [0, 0.999, 1],
    "ridge": [1e-9, 1e9, 0],
}
"""Of every option values at its limits and, for most, one beyond."""


@pytest.mark.parametrize("name", METHOD_SECTIONS)
def test_what_a_settings_file_may_say_makes_a_method(name: str) -> None:
    """Or `mergenode config check` would pass what `mergenode run` refuses. Every two options with each other."""
    from mergenode.methods import build_method

    accepted = 0
    for pair in combinations(sorted(method_options(name)), 2) if len(method_options(name)) > 1 else [("profile",)]:
        for values in product(*(VALUES[option] for option in pair)):
            section = json.dumps({"name": name, **dict(zip(pair, values, strict=True))})
            try:
                settings = parse_settings(f"base: ./base\nregistries: []\nmethod: {section}", directory=ROOT)
            except UsageError:
                continue
            build_method(settings.method.name, settings.method.options)
            accepted += 1
    assert accepted > 0


def test_every_method_has_settings() -> None:
    from mergenode.methods import METHODS

    assert set(METHOD_SECTIONS) == set(METHODS)


def test_registry_schemes_equal_the_registries() -> None:
    from mergenode.adapters.registries import REGISTRIES
    from mergenode.settings import SCHEMES

    assert set(SCHEMES) == set(REGISTRIES)
