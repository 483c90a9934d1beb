"""Full checkpoints against the base."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from mergenode.adapters.checkpoints.base import BaseModel, describe_base
from mergenode.adapters.checkpoints.contribution import Contribution, Dense, open_contribution
from mergenode.errors import RejectedError, RejectReason
from mergenode.types import Kind
from tests.support.checkpoints import (
    EMBED,
    Q_PROJ,
    Tensors,
    finetuned,
    write_file,
    write_sharded,
    write_single,
)
from tests.support.materialised import deltas

EMBEDDING = f"{EMBED}.weight"


def _check(contribution: Contribution, base: Tensors, tuned: Mapping[str, torch.Tensor]) -> None:
    """Deltas of all float tensors, aliases apart, are tuned - base exactly."""
    found = deltas(contribution, base)
    assert set(found) == {
        name for name, value in base.items() if value.is_floating_point() and name != "lm_head.weight"
    }
    for name, delta in found.items():
        assert torch.equal(delta, tuned[name].double() - base[name].double()), name


@pytest.mark.parametrize("layout", ["single", "sharded", "bare"])
def test_every_layout(tmp_path: Path, base: BaseModel, base_values: Tensors, layout: str) -> None:
    tuned = finetuned(base_values)
    path = {
        "single": lambda: write_single(tmp_path / "x", tuned),
        "sharded": lambda: write_sharded(tmp_path / "x", tuned, 3),
        "bare": lambda: write_file(tmp_path / "x.safetensors", tuned),
    }[layout]()
    with open_contribution(path, base) as contribution:
        assert contribution.kind is Kind.FULL
        assert contribution.warnings == ()
        assert contribution.canonical_config == b""
        assert list(contribution.entries) == [name for name in base.specs if name in contribution.entries]
        _check(contribution, base_values, tuned)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_other_float_types(tmp_path: Path, base: BaseModel, base_values: Tensors, dtype: torch.dtype) -> None:
    tuned = {
        name: value.to(dtype) if value.is_floating_point() else value for name, value in finetuned(base_values).items()
    }
    with open_contribution(write_single(tmp_path / "x", tuned), base) as contribution:
        _check(contribution, base_values, tuned)
        entry = contribution.entries[f"{Q_PROJ}.weight"]
        assert isinstance(entry, Dense)
        assert entry.spec == contribution.weights.specs[entry.source]


def test_a_tied_weight_comes_once_whichever_name_is_stored(
    tmp_path: Path, base: BaseModel, base_values: Tensors
) -> None:
    tuned = finetuned(base_values)
    for stored in (("lm_head.weight",), (EMBEDDING,), ("lm_head.weight", EMBEDDING)):
        part = {
            name: value for name, value in tuned.items() if name in stored or name not in (EMBEDDING, "lm_head.weight")
        }
        with open_contribution(write_single(tmp_path / "-".join(stored), part), base) as contribution:
            _check(contribution, base_values, tuned)
            assert "lm_head.weight" not in contribution.entries


def test_a_head_that_the_base_does_not_store(tmp_path: Path, base_values: Tensors) -> None:
    values = {name: value for name, value in base_values.items() if name != "lm_head.weight"}
    base = describe_base(write_single(tmp_path / "base", values))
    tuned = finetuned(values)
    both = tuned | {"lm_head.weight": tuned[EMBEDDING].clone()}
    with open_contribution(write_single(tmp_path / "both", both), base) as contribution:
        _check(contribution, values, tuned)
    for head, reason in (
        (tuned[EMBEDDING] + 1, RejectReason.TIED_WEIGHTS_DIFFER),
        (tuned[EMBEDDING][:40].clone(), RejectReason.TENSOR_UNEXPECTED),
    ):
        with pytest.raises(RejectedError, match="lm_head") as caught:
            open_contribution(write_single(tmp_path / "x", tuned | {"lm_head.weight": head}), base)
        assert caught.value.reason is reason


def test_missing_buffers_are_kept_from_the_base(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    tuned = finetuned(base_values)
    del tuned["model.position_ids"], tuned["model.mask"]
    with open_contribution(write_single(tmp_path / "x", tuned), base) as contribution:
        _check(contribution, base_values, tuned)
        (warning,) = contribution.warnings
        assert warning.startswith("2 integer tensors")


def test_one_uniform_prefix_is_accepted(tmp_path: Path, base_values: Tensors) -> None:
    inner = {name.removeprefix("model."): value for name, value in base_values.items() if name != "lm_head.weight"}
    outer = {f"model.{name}": value for name, value in inner.items()}
    for number, (start, stored) in enumerate(((inner, outer), (outer, inner))):
        base = describe_base(write_single(tmp_path / f"base{number}", start))
        tuned = finetuned(stored)
        by_base_name = dict(zip(start, tuned.values(), strict=True))
        with open_contribution(write_single(tmp_path / f"x{number}", tuned), base) as contribution:
            _check(contribution, start, by_base_name)
            assert "prefix 'model.'" in contribution.warnings[0]
        del tuned[next(name for name in tuned if name.endswith("scale"))]
        with pytest.raises(RejectedError):
            open_contribution(write_single(tmp_path / f"y{number}", tuned), base)


def test_a_head_beside_a_prefixed_body(tmp_path: Path, base_values: Tensors) -> None:
    """The base was saved as the bare body; the fine-tune has body and tied head."""
    body = {name.removeprefix("model."): value for name, value in base_values.items() if name != "lm_head.weight"}
    base = describe_base(write_single(tmp_path / "base", body))
    tuned = finetuned(base_values)
    with open_contribution(write_single(tmp_path / "x", tuned), base) as contribution:
        _check(contribution, body, {name.removeprefix("model."): value for name, value in tuned.items()})


def test_ignored_files_are_told(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    path = write_sharded(tmp_path / "x", finetuned(base_values))
    write_file(path / "stale.safetensors", {"a": torch.zeros(1)})
    with open_contribution(path, base) as contribution:
        assert "stale.safetensors" in contribution.warnings[0]


def test_missing_vocabulary_rows_say_how_to_mend_it(tmp_path: Path, base: BaseModel, base_values: Tensors) -> None:
    tuned = finetuned(base_values)
    tuned[EMBEDDING] = tuned[EMBEDDING][:40].clone()
    with pytest.raises(RejectedError, match=r"\[40, 32\].*\[48, 32\]") as caught:
        open_contribution(write_single(tmp_path / "x", tuned), base)
    assert "vocabulary" in caught.value.hint


def test_a_configuration_may_be_absent_but_not_something_else(
    tmp_path: Path, base: BaseModel, base_values: Tensors
) -> None:
    path = write_single(tmp_path / "x", finetuned(base_values))
    (path / "config.json").unlink()
    open_contribution(path, base).close()
    (path / "config.json").write_text("[1]")
    with pytest.raises(RejectedError, match=r"x/config\.json") as caught:
        open_contribution(path, base)
    assert caught.value.reason is RejectReason.CONFIG_INVALID


def test_quantised_weights_with_a_float_scale_are_refused(
    tmp_path: Path, base: BaseModel, base_values: Tensors
) -> None:
    tuned = finetuned(base_values)
    tuned[f"{Q_PROJ}.weight"] = tuned[f"{Q_PROJ}.weight"].to(torch.int8)
    tuned[f"{Q_PROJ}.weight_scale"] = torch.ones(32)
    with pytest.raises(RejectedError, match="q_proj"):
        open_contribution(write_single(tmp_path / "x", tuned), base)


def test_a_head_equal_to_another_embedding_of_its_shape(tmp_path: Path, base_values: Tensors) -> None:
    """Two embeddings of one shape: the unstored head may be tied to either of them."""
    values = {name: value for name, value in base_values.items() if name != "lm_head.weight"}
    values["model.embed_other.weight"] = base_values[EMBEDDING] + 1
    base = describe_base(write_single(tmp_path / "base", values))
    tuned = finetuned(values)
    for name in (EMBEDDING, "model.embed_other.weight"):
        with_head = tuned | {"lm_head.weight": tuned[name].clone()}
        with open_contribution(write_single(tmp_path / name, with_head), base) as contribution:
            assert set(contribution.entries) == {key for key in values if values[key].is_floating_point()}
