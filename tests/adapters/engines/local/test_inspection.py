"""Evidence against its definitions, on models with everything that is awkward."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mergenode.adapters.checkpoints.base import describe_base
from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.engines.local import inspection_pass
from mergenode.adapters.engines.local.inspection import MEASURED, Effort, Subject, inspect
from mergenode.errors import RejectedError, TransientError, TransientReason
from mergenode.gates.evidence import MOST_NAMES, WHOLE, Evidence, Need
from mergenode.ledger.groups import layer_group
from mergenode.ports.engine import Stopped
from tests.support.literal_evidence import literal, literal_median, update
from tests.support.models import (
    EMBEDDING,
    HEAD,
    PROJECTED,
    densified,
    factors,
    fine_tune,
    random_base,
    write_lora,
    write_model,
)

BASE = random_base()
FLOATS = [name for name, tensor in BASE.items() if tensor.is_floating_point() and name != HEAD]
LORA = ("layers.0.attn.q_proj", "layers.0.mlp.down_proj")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspection")
    write_model(folder / "base", BASE)
    write_model(folder / "tuned", fine_tune(BASE, 1), shards=3)
    write_model(folder / "merge", fine_tune(BASE, 2, ratio=0.05))
    write_lora(folder / "lora", pairs())
    return folder


def pairs() -> dict[str, torch.Tensor]:
    return factors(LORA, {name: tuple(tensor.shape) for name, tensor in BASE.items()}, 3)


def groups_of(names: list[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {WHOLE: names}
    for name in names:
        groups.setdefault(layer_group(name), []).append(name)
    return groups


def assert_as_defined(found: Evidence, tuned: dict[str, torch.Tensor], merge: dict[str, torch.Tensor]) -> None:
    assert set(found.groups) == set(groups_of(FLOATS))
    for group, names in groups_of(FLOATS).items():
        expected, measured = literal(BASE, tuned, merge, names), found.groups[group]
        assert measured.norm == pytest.approx(expected.norm, rel=1e-5), group
        assert measured.parameters == sum(BASE[name].numel() for name in names)
        base_norm = math.sqrt(sum(float(BASE[name].double().square().sum()) for name in names))
        assert measured.base_norm == pytest.approx(base_norm)
        for value, wanted in ((measured.cosine, expected.cosine), (measured.sign_conflict, expected.conflict)):
            assert (value is None) == (wanted is None), group
            assert value is None or value == pytest.approx(wanted, abs=1e-5), group


def test_a_full_checkpoint_against_the_definitions(folder: Path) -> None:
    tuned = fine_tune(BASE, 1)
    found = inspect(folder / "base", folder / "tuned", merge_path=folder / "merge")
    assert_as_defined(found, tuned, fine_tune(BASE, 2, ratio=0.05))
    matrices = [(update(BASE, tuned, name), min(BASE[name].shape)) for name in PROJECTED]
    assert found.spectra is not None and found.spectra.matrices == len(PROJECTED) and not found.spectra.adapter
    for directions, value in enumerate(found.spectra.median, start=1):
        assert value == pytest.approx(literal_median(matrices, directions), abs=1e-5)
    assert found.not_finite == () and found.merged and found.label == "tuned"
    assert found.content == content_digest(folder / "tuned")


def test_an_adapter_is_its_dense_checkpoint_but_compared_with_its_own_rank(folder: Path) -> None:
    dense = densified(BASE, pairs())
    found = inspect(folder / "base", folder / "lora", merge_path=folder / "merge")
    assert_as_defined(found, dense, fine_tune(BASE, 2, ratio=0.05))
    matrices = [(update(BASE, dense, f"{module}.weight"), 4) for module in LORA]
    assert found.spectra is not None and found.spectra.matrices == 2 and found.spectra.adapter
    for directions in (1, 2, 3):
        assert found.spectra.median[directions - 1] == pytest.approx(literal_median(matrices, directions), abs=1e-5)
    assert found.spectra.median[3] is None, "an adapter of rank 4 has no more than four directions"
    assert found.content == content_digest(folder / "lora")


def test_an_amplified_direction_shows_and_one_tiny_matrix_does_not(folder: Path, tmp_path: Path) -> None:
    tuned = fine_tune(BASE, 1)
    for name in PROJECTED:
        rows, columns = BASE[name].shape
        spike = torch.ones(rows, 1) @ torch.ones(1, columns)
        tuned[name] = (tuned[name].double() + spike).to(tuned[name].dtype)
    found = inspect(folder / "base", write_model(tmp_path / "hijack", tuned)).spectra
    assert found is not None and found.median[0] is not None and found.median[0] > 0.95
    assert found.worst is not None and found.worst.shares[0] > 0.95
    tuned = fine_tune(BASE, 1)
    small = "layers.0.mlp.narrow.weight"
    tuned[small] = BASE[small] + 1e-3
    found = inspect(folder / "base", write_model(tmp_path / "small", tuned)).spectra
    assert found is not None and found.median[0] is not None and found.median[0] < 0.2
    assert found.worst is not None and found.worst.name != small


def test_only_what_is_asked_for_is_measured(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object) -> None:
        raise AssertionError("nobody asked for this")

    for name in ("leading_energies", "product_energies", "opposing_mass", "inner", "_same_bytes"):
        monkeypatch.setattr(inspection_pass, name, refused)
    for model in ("tuned", "lora"):
        found = inspect(folder / "base", folder / model, needs=[Need.NORMS], merge_path=folder / "merge")
        assert found.whole is not None and found.whole.norm > 0
        assert (found.whole.cosine, found.whole.sign_conflict, found.spectra) == (None, None, None)
        assert (found.not_finite, found.frozen_changed, found.merged) == (None, None, False)


def test_without_a_running_merge_there_is_nothing_to_compare_with(folder: Path) -> None:
    found = inspect(folder / "base", folder / "tuned")
    assert found.whole is not None and not found.merged
    assert (found.whole.cosine, found.whole.sign_conflict) == (None, None)


def test_frozen_tensors_are_compared_bit_for_bit(folder: Path, tmp_path: Path) -> None:
    tuned = fine_tune(BASE, 1)
    kept = [name for name in FLOATS if name.startswith("layers.0.") or name == EMBEDDING]
    for name in kept:
        tuned[name] = BASE[name].clone()
    tuned[HEAD] = BASE[EMBEDDING].clone()
    zero = tuned["layers.0.norm.weight"]
    zero[0] = -0.0
    base = {name: tensor.clone() for name, tensor in BASE.items()}
    base["layers.0.norm.weight"][0] = 0.0
    write_model(tmp_path / "base", base)
    path = write_model(tmp_path / "tuned", tuned)

    def changed(*patterns: str) -> set[str]:
        return set(inspect(tmp_path / "base", path, needs=[Need.FROZEN], frozen=patterns).frozen_changed or ())

    assert changed("layers.0.attn.*", HEAD) == set()
    assert changed("layers.0.*") == {"layers.0.norm.weight"}, "minus zero is another bit pattern"
    assert changed("layers.1.conv.*", "vision.empty") == {"layers.1.conv.weight", "layers.1.conv.bias"}
    tuned["layers.0.mlp.up_proj.weight"] = BASE["layers.0.mlp.up_proj.weight"].float()
    path = write_model(tmp_path / "wide", tuned)
    assert changed("layers.0.mlp.*") == {"layers.0.mlp.up_proj.weight"}, "equal values, another element type"


def test_adapters_leave_frozen_what_they_do_not_touch(folder: Path, tmp_path: Path) -> None:
    zero = {name: tensor * (0 if "lora_B" in name and "q_proj" in name else 1) for name, tensor in pairs().items()}
    path = write_lora(tmp_path / "lora", zero)
    found = inspect(folder / "base", path, needs=[Need.FROZEN], frozen=["layers.*"])
    assert found.frozen_changed == ("layers.0.mlp.down_proj.weight",) and found.frozen_changed_count == 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_evidence(folder: Path, tmp_path: Path, value: float) -> None:
    tuned = fine_tune(BASE, 1)
    tuned["layers.0.attn.q_proj.weight"][3, 5] = value
    found = inspect(folder / "base", write_model(tmp_path / "bad", tuned), merge_path=folder / "merge")
    assert found.not_finite == ("layers.0.attn.q_proj.weight",)
    assert found.whole is not None and not math.isfinite(found.whole.norm)
    assert math.isfinite(found.groups["layers.1"].norm)
    assert found.spectra is not None and found.spectra.median[0] is not None and math.isnan(found.spectra.median[0])


def test_values_whose_squares_overflow_are_finite(folder: Path, tmp_path: Path) -> None:
    tuned = fine_tune(BASE, 1)
    tuned["layers.1.exact.bias"] += 1e200
    found = inspect(folder / "base", write_model(tmp_path / "huge", tuned))
    assert found.not_finite == () and found.whole is not None and found.whole.norm == math.inf


def test_names_are_bounded(folder: Path, tmp_path: Path) -> None:
    base = {f"layers.0.part_{number}": torch.ones(2) for number in range(MOST_NAMES + 5)}
    bad = {name: tensor * math.nan for name, tensor in base.items()}
    paths = write_model(tmp_path / "base", base), write_model(tmp_path / "bad", bad)
    found = inspect(*paths, frozen=["*"])
    assert found.not_finite is not None and found.frozen_changed is not None
    assert len(found.not_finite) == len(found.frozen_changed) == MOST_NAMES
    assert found.not_finite_count == found.frozen_changed_count == MOST_NAMES + 5


def test_threads_and_memory_change_no_number_but_bound_spectra(folder: Path) -> None:
    base = describe_base(folder / "base")
    one = inspect(folder / "base", folder / "tuned", base=base, merge_path=folder / "merge", frozen=["*"])
    three = inspect(
        folder / "base", folder / "tuned", base=base, merge_path=folder / "merge", frozen=["*"],
        effort=Effort(threads=3, memory=1 << 20),
    )  # fmt: skip
    assert one == three
    little = inspect(folder / "base", folder / "tuned", base=base, effort=Effort(memory=20_000)).spectra
    assert little is not None and 0 < little.matrices < len(PROJECTED)


def test_put_down_when_the_node_stops(folder: Path) -> None:
    with pytest.raises(Stopped):
        inspect(folder / "base", folder / "tuned", effort=Effort(stop=lambda: True))


def test_what_can_never_be_folded_is_refused(folder: Path, tmp_path: Path) -> None:
    tuned = fine_tune(BASE, 1)
    tuned["layers.0.norm.weight"] = torch.ones(7)
    with pytest.raises(RejectedError):
        inspect(folder / "base", write_model(tmp_path / "other", tuned), needs=MEASURED)


def test_other_weights_than_were_folded_are_no_evidence(folder: Path) -> None:
    content = content_digest(folder / "tuned")
    same = Subject(path=folder / "tuned", content=content)
    assert inspect(folder / "base", same, needs=[Need.NORMS]).content == content
    with pytest.raises(TransientError) as raised:
        inspect(folder / "base", Subject(path=folder / "merge", content=content), needs=[Need.NORMS])
    assert raised.value.reason is TransientReason.CHANGED_WHILE_READING
