"""The plan of memory: refused early with numbers that are right, and no fold depends on how it was planned."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mergenode.adapters.checkpoints.contribution import open_contribution
from mergenode.adapters.checkpoints.weights import WeightFiles
from mergenode.adapters.engines.local import engine, memory, tensors
from mergenode.adapters.engines.local.engine import Resources
from mergenode.adapters.engines.local.fold import FoldPass
from mergenode.adapters.engines.local.incoming import Source
from mergenode.adapters.engines.local.memory import MARGIN_BYTES, plan_window
from mergenode.errors import FatalError, RejectedError, RejectReason
from mergenode.methods import build_method
from mergenode.types import DType, TensorSpec
from tests.support.local_node import AMPLE, LocalNode, load_model, merge, same_bits
from tests.support.models import factors, fine_tune, random_base, write_lora, write_model

MIB = 1 << 20
PROCESS = 200 * MIB
SPEC = TensorSpec("lm_head.weight", DType.BF16, (2048, 512))
METHOD = build_method("opcm", {})


@pytest.fixture(autouse=True)
def steady_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that always takes the same: what other tests left in this one does not matter here."""
    for module in (memory, engine):
        monkeypatch.setattr(module, "resident_bytes", lambda: PROCESS - MARGIN_BYTES)


def large_base(tmp_path: Path) -> Path:
    """One projected matrix of 1 MiB in float32, a table of 4 MiB, and little else."""
    draw = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (8192, 128), "layers.0.proj.weight": (512, 512), "layers.0.bias": (512,)}
    base = {name: torch.randn(shape, generator=draw, dtype=torch.bfloat16) for name, shape in shapes.items()}
    return write_model(tmp_path / "base", base)


def with_limit(limit: int) -> Resources:
    return replace(AMPLE, memory_limit=limit)


def suggested_limit(base: Path, place: Path, method: str = "opcm") -> int:
    """The limit, in bytes, that the refusal of a smaller one tells."""
    with pytest.raises(FatalError) as caught:
        LocalNode(place, base, method, resources=with_limit(PROCESS)).engine.check_memory()
    assert "layers.0.proj.weight" in caught.value.message and "[512, 512]" in caught.value.message
    found = re.search(r"at least (\d+)MiB", caught.value.hint)
    assert found is not None
    return int(found[1]) * MIB


def test_the_suggested_limit_is_enough_and_one_below_it_is_not(tmp_path: Path) -> None:
    base = large_base(tmp_path)
    suggested = suggested_limit(base, tmp_path / "a")
    enough = LocalNode(tmp_path / "b", base, resources=with_limit(suggested))
    assert enough.engine.check_memory() <= suggested
    enough.fold(write_model(tmp_path / "tuned", fine_tune(load_model(base), 1)))
    with pytest.raises(FatalError):
        LocalNode(tmp_path / "c", base, resources=with_limit(suggested - 2 * MIB)).engine.check_memory()


def test_a_limit_that_is_too_small_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = large_base(tmp_path)
    node = LocalNode(tmp_path / "node", base, resources=with_limit(PROCESS + MIB))

    def read_into(*_: object) -> None:
        raise AssertionError("weights were read")

    tuned = write_model(tmp_path / "tuned", fine_tune(load_model(base), 1))
    monkeypatch.setattr(WeightFiles, "read_into", read_into)
    with pytest.raises(FatalError, match=r"engine\.memory_limit"):
        node.fold(tuned)


def test_a_process_that_grows_within_its_margin_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = large_base(tmp_path)
    node = LocalNode(tmp_path / "b", base, resources=with_limit(suggested_limit(base, tmp_path / "a")))
    node.fold(write_model(tmp_path / "1", fine_tune(load_model(base), 1)))
    monkeypatch.setattr(engine, "resident_bytes", lambda: PROCESS)
    node.fold(write_model(tmp_path / "2", fine_tune(load_model(base), 2)))
    monkeypatch.setattr(engine, "resident_bytes", lambda: PROCESS + 2 * MIB)
    with pytest.raises(FatalError, match="202 MiB of the process"):
        node.fold(write_model(tmp_path / "3", fine_tune(load_model(base), 3)))


@pytest.mark.parametrize(
    ("method", "name", "excludable"),
    [
        ("opcm", "layers.0.proj.weight", True),
        ("opcm", "layers.0.bias", False),  # in slices as it is
        ("swudi", "layers.0.proj.weight", True),
        ("ties", "layers.0.proj.weight", False),  # has no such option
        ("magmax", "layers.0.proj.weight", False),
    ],
)
def test_only_what_helps_is_suggested(method: str, name: str, excludable: bool) -> None:
    spec = TensorSpec(name, DType.BF16, (512, 512) if name.endswith("weight") else (512,))
    with pytest.raises(FatalError, match=f"cannot hold the fold of '{name}'") as caught:
        plan_window(with_limit(PROCESS + MIB), 10 * MIB, spec, build_method(method, {}), process=PROCESS)
    assert "at least 211MiB" in caught.value.hint
    assert ("method.exclude" in caught.value.hint) == excludable


def test_no_option_is_suggested_where_options_are_given() -> None:
    limits = Resources(memory_limit=PROCESS, limit_name="--memory-limit", exclude_name="")
    spec = TensorSpec("layers.0.proj.weight", DType.BF16, (512, 512))
    with pytest.raises(FatalError, match=r"--memory-limit 200 MiB cannot hold .* it needs 1 MiB beside") as caught:
        plan_window(limits, 5, spec, build_method("opcm", {}), process=PROCESS)
    assert caught.value.hint == "Set --memory-limit to at least 202MiB."


@pytest.mark.parametrize("method", ["aswudi", "tsvm", "iso", "opcm"])
def test_the_first_refusal_names_a_limit_that_the_fold_and_the_export_fit_into(tmp_path: Path, method: str) -> None:
    base = large_base(tmp_path)
    suggested = suggested_limit(base, tmp_path / "a", method)
    node = LocalNode(tmp_path / "b", base, method, resources=with_limit(suggested))
    assert node.engine.least_memory() <= node.engine.check_memory() <= suggested


def test_plenty_of_memory_is_not_all_used() -> None:
    assert plan_window(with_limit(64 << 30), 10 * MIB, SPEC, METHOD, process=PROCESS) == memory.DEFAULT_WINDOW_BYTES
    assert plan_window(with_limit(64 << 30), 1 << 30, SPEC, METHOD, process=PROCESS) == 1 << 30
    assert plan_window(with_limit(PROCESS + 30 * MIB), 10 * MIB, SPEC, METHOD, process=PROCESS) == 30 * MIB


def test_a_merge_takes_fewer_models_at_once_instead_of_refusing(tmp_path: Path) -> None:
    """The plan of a merge is made for one model at a time; more are taken where they fit, the bytes are the same."""
    base = large_base(tmp_path)
    models = [write_model(tmp_path / f"{n}", fine_tune(load_model(base), n, ratio=0.05)) for n in range(5)]
    suggested = suggested_limit(base, tmp_path / "node")
    at_once = []
    for name, limit in (("tight", suggested), ("ample", 8 << 30)):
        merge(base, tmp_path / name, models, resources=with_limit(limit))
        at_once.append(LocalNode(tmp_path / f"of-{name}", base, resources=with_limit(limit)).engine.most_sources(8))
    assert at_once[0] < len(models) <= at_once[1]
    tight, ample = load_model(tmp_path / "tight"), load_model(tmp_path / "ample")
    assert all(same_bits(tight[name], ample[name]) for name in ample)


def test_an_adapter_whose_factors_do_not_fit_is_refused_and_the_node_goes_on(tmp_path: Path) -> None:
    base = large_base(tmp_path)
    node = LocalNode(tmp_path / "node", base, resources=with_limit(PROCESS + 40 * MIB))
    node.engine.check_memory()
    rank = 2048  # 8192 x 2048 in float32 are 64 MiB
    pairs = {
        "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(rank, 8192),
        "base_model.model.model.embed_tokens.lora_embedding_B": torch.ones(128, rank),
    }
    with pytest.raises(RejectedError) as caught:
        node.fold(write_lora(tmp_path / "huge", pairs, rank=rank))
    assert caught.value.reason is RejectReason.TOO_LARGE
    assert "adapter_model.safetensors" in caught.value.message and "embed_tokens" in caught.value.message
    node.fold(write_lora(tmp_path / "good", factors(["layers.0.proj"], {"layers.0.proj.weight": (512, 512)}, 1)))


@pytest.mark.parametrize(
    ("method", "options"), [("opcm", {}), ("opcm", {"variant": "paper"}), ("ties", {}), ("dare", {})]
)
@pytest.mark.parametrize("slice_of", [1 << 18, 100])
def test_every_step_fits_into_the_largest_need(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, options: dict[str, object], slice_of: int
) -> None:
    """The plan looks at the first slice of every tensor; no step may need more, for dense and low-rank arrivals."""
    monkeypatch.setattr(tensors, "SLICE_ELEMENTS", slice_of)
    base = random_base()
    node = LocalNode(tmp_path, write_model(tmp_path / "base", base), method, options)
    shapes = {name: tuple(tensor.shape) for name, tensor in base.items()}
    node.fold(write_model(tmp_path / "first", fine_tune(base, 1)))
    for path in (
        write_model(tmp_path / "dense", fine_tune(base, 2)),
        write_lora(tmp_path / "lora", factors(["layers.0.mlp.up_proj"], shapes, 1, rank=30), rank=30),
    ):
        with node.engine.open_base() as files, open_contribution(path, node.described) as contribution:
            work = FoldPass(
                base=node.described, base_files=files, sources=[Source(contribution, 1.0, path.name)],
                method=node.engine.method, folder=tmp_path / f"{path.name}-fold", previous=node.folder,
                device=torch.device("cpu"),
            )  # fmt: skip
            work.folder.mkdir()
            steps = list(work.steps())
            work.close()
            assert max(step.need_bytes for step in steps) <= memory.largest_need(node.described, work, 1)[0]
