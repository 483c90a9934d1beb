"""The section ``gates``: equal to the table of gates, and complete where a gate needs something."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import yaml

from mergenode.bootstrap.gates import gates_of
from mergenode.errors import UsageError
from mergenode.gates import GATES
from mergenode.gates.contract import Action
from mergenode.settings import load_settings
from mergenode.settings.gates import GatesSettings

KEY = "ed25519:" + "ab" * 32


def loaded(folder: Path, **sections: object) -> GatesSettings:
    file = folder / "node.yaml"
    file.write_text(yaml.safe_dump({"base": "./base", "registries": ["./inbox"], **sections}))
    return load_settings(file, {}).gates


def test_the_sections_are_those_of_the_table_in_its_order() -> None:
    assert list(GatesSettings.model_fields) == list(GATES)


@pytest.mark.parametrize("name", GATES)
def test_options_and_defaults_are_those_of_the_factory(name: str) -> None:
    section = GatesSettings.model_fields[name].annotation
    assert section is not None
    parameters = inspect.signature(GATES[name]).parameters
    fields = section.model_fields
    assert set(fields) - {"action"} == set(parameters)
    assert {option: fields[option].default for option in parameters} == {
        option: parameter.default for option, parameter in parameters.items()
    }


def test_by_default_only_gates_that_the_fold_can_answer_are_on(tmp_path: Path) -> None:
    gates = gates_of(loaded(tmp_path))
    assert [(gate.name, gate.action) for gate in gates] == [
        ("finite", Action.REJECT), ("norm", Action.QUARANTINE), ("alignment", Action.OBSERVE),
    ]  # fmt: skip


def test_what_is_set_reaches_the_gate(tmp_path: Path) -> None:
    chosen = {
        "norm": {"action": "reject", "max_ratio": 2.0, "max_group_ratio": None},
        "frozen": {"action": "observe", "patterns": ["lm_head.*"]},
        "signature": {"action": "quarantine", "keys": {"inbox": [KEY], "*": [KEY]}},
        "alignment": {"action": "off"},
    }
    gates = {gate.name: gate for gate in gates_of(loaded(tmp_path, gates=chosen))}
    assert list(gates) == ["signature", "finite", "frozen", "norm"]
    assert gates["norm"].options["max_ratio"] == 2.0 and gates["norm"].options["max_group_ratio"] is None
    assert gates["norm"].action is Action.REJECT
    assert gates["frozen"].patterns == ("lm_head.*",)
    assert gates["signature"].options["keys"] == {"inbox": (KEY,), "*": (KEY,)}


def test_off_without_quotes_is_off(tmp_path: Path) -> None:
    file = tmp_path / "node.yaml"
    file.write_text("base: ./base\nregistries: []\ngates: {norm: {action: off}, finite: {action: 'off'}}\n")
    assert [name for name, _, _ in load_settings(file, {}).gates.active()] == ["alignment"]


@pytest.mark.parametrize(
    ("gates", "complaint"),
    [
        ({"norm": {"action": "warn"}}, "allowed is 'off', 'observe', 'quarantine' or 'reject'"),
        ({"norm": {"action": True}}, "gates.norm.action"),
        ({"norm": {"max_ratio": 0.5}}, "allowed is at least 1"),
        ({"top_share": {"directions": 5}}, "allowed is at most 4"),
        ({"nrom": {}}, "did you mean 'norm'?"),
        ({"signature": {"action": "reject"}}, "gates.signature needs keys"),
        ({"signature": {"keys": {"inbox": []}}}, "at least one key"),
        ({"signature": {"keys": {"inbox": ["ed25519:AB"]}}}, "a text that matches"),
        ({"signature": {"keys": {"elsewhere": [KEY]}}}, "names the registry 'elsewhere'"),
        ({"frozen": {"action": "observe"}}, "gates.frozen needs names"),
        ({"evaluation": {"action": "observe"}}, "set task.entrypoint"),
        ({"frank_wolfe_sign": {"action": "observe"}}, "set task.entrypoint"),
    ],
)
def test_what_is_wrong_is_told_by_name(tmp_path: Path, gates: dict[str, object], complaint: str) -> None:
    with pytest.raises(UsageError) as raised:
        loaded(tmp_path, gates=gates)
    assert complaint in raised.value.message
