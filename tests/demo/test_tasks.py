"""The fields of the form: real digits, labels kept, no field seen by two teams."""

from __future__ import annotations

import sys

import pytest
import torch

from mergenode.demo.tasks import FIELD, FORM, HOME, TASKS, load_digits_split
from mergenode.errors import UsageError


def test_split_keeps_every_digit_once() -> None:
    digits = load_digits_split()
    assert len(digits.train_images) + len(digits.test_images) == 1797
    assert digits.train_images.shape[1:] == (FIELD, FIELD)
    everything = torch.cat([digits.train_images, digits.test_images]).flatten(1)
    from sklearn.datasets import load_digits

    original = torch.from_numpy(load_digits().data).float() / 16
    assert sorted(map(tuple, everything.tolist())) == sorted(map(tuple, original.tolist()))
    # Every label is there in both parts, so that no task is a trick of the split.
    assert set(digits.train_labels.tolist()) == set(digits.test_labels.tolist()) == set(range(10))


def test_split_is_the_same_every_time() -> None:
    first, second = load_digits_split(), load_digits_split()
    assert torch.equal(first.test_images, second.test_images)
    assert torch.equal(first.test_labels, second.test_labels)


@pytest.mark.parametrize("task", [*TASKS, HOME], ids=lambda task: task.name)
def test_forms_hold_the_digits_in_their_field_alone(task) -> None:  # type: ignore[no-untyped-def]  # parametrized
    images = load_digits_split().test_images[:50]
    before = images.clone()
    forms = task.forms(images)
    assert forms.shape == (50, FORM, FORM)
    assert torch.equal(images, before)
    assert float(forms.min()) >= 0.0
    assert float(forms.max()) <= 1.0
    top, left = task.row * FIELD, task.column * FIELD
    assert torch.equal(forms[:, top : top + FIELD, left : left + FIELD], task.condition(images))
    forms[:, top : top + FIELD, left : left + FIELD] = 0.0
    assert not forms.any()


def test_every_team_has_a_field_of_its_own() -> None:
    places = {(task.row, task.column) for task in (*TASKS, HOME)}
    assert len(places) == 7
    assert len({task.name for task in TASKS}) == 6


@pytest.mark.parametrize("name", [task.name for task in TASKS if task.name != "clean"])
def test_conditions_change_what_is_seen(name: str) -> None:
    task = next(task for task in TASKS if task.name == name)
    images = load_digits_split().test_images[:20]
    assert float((task.condition(images) - images).abs().mean()) > 0.02


def test_missing_scikit_learn_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UsageError, match="scikit-learn") as caught:
        load_digits_split()
    assert 'pip install "mergenode[demo]"' in caught.value.hint
