"""What weighing and protecting cannot go together with, told where the file says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mergenode.errors import UsageError
from mergenode.settings import Settings, load_settings

HEAD = "base: ./base\nregistries: []\n"


def loaded(root: Path, text: str) -> Settings:
    file = root / "node.yaml"
    file.write_text(HEAD + text)
    return load_settings(file, {})


def test_what_is_written_is_what_is_asked_for(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        "task: {entrypoint: 'a:B'}\nweigh: {name: fit, objective: {math: 2.0}, max_fall: 0}\n"
        "protect: [{name: a, fisher: ./a.fisher.safetensors, max_share: 0.5}]\n",
    )
    assert found.weigh.objective == {"math": 2.0} and found.weigh.max_fall == 0.0
    assert found.protect[0].fisher == tmp_path / "a.fisher.safetensors" and found.protect[0].max_rise == 0.005


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("weigh: {name: fit}", "set task.entrypoint"),
        ("weigh: {lowest: 1.5}", "lowest below highest"),
        ("weigh: {objective: {}}", "at least one task"),
        ("weigh: {objective: {a: 0}}", "weigh.objective"),
        ("weigh: {objective: best}", "is \"best\"; allowed is 'mean' or a mapping such as {name: value}"),
        ("weigh: {evaluations: 5}", "weigh.evaluations"),
        ("protect: [{name: a}]", "fisher"),
        ("protect: [{name: a, fisher: ./f, max_rise: null}]", "max_rise or max_share"),
        ("protect: [{name: a, fisher: ./f, max_share: 1.5}]", "max_share"),
        ("protect: [{name: a, fisher: ./f}, {name: a, fisher: ./g}]", "occurs twice"),
        ("mixer: {name: dimat}\nprotect: [{name: a, fisher: ./f}]", "nothing is folded"),
        ("mixer: {name: dimat}\ntask: {entrypoint: 'a:B'}\nweigh: {name: fit}", "nothing is folded"),
        ("protect: [{name: a, fisher: ./f, max_ris: 1}]", "max_rise"),
    ],
)
def test_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError) as caught:
        loaded(tmp_path, text)
    assert why in f"{caught.value.message} {caught.value.hint}"
