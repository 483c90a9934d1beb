"""The surface of the settings: deliberate names, with unit, default and reason, shown in configs/."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from mergenode.settings import METHOD_SECTIONS, load_settings, method_options
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


def test_every_method_has_settings() -> None:
    from mergenode.methods import METHODS

    assert set(METHOD_SECTIONS) == set(METHODS)


def test_registry_schemes_equal_the_registries() -> None:
    from mergenode.adapters.registries import REGISTRIES
    from mergenode.settings import SCHEMES

    assert set(SCHEMES) == set(REGISTRIES)
