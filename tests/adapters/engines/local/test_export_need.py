"""The plan of an export's memory: every step within the largest need, refused before anything is accepted."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mergenode.adapters.engines.local import engine, memory
from mergenode.adapters.engines.local.direct import largest_direct
from mergenode.adapters.engines.local.export import ExportPass
from mergenode.adapters.engines.local.export_need import largest_export
from mergenode.adapters.engines.local.memory import MARGIN_BYTES
from mergenode.adapters.engines.local.updates import UpdatePass
from mergenode.errors import FatalError
from mergenode.methods import METHODS, build_method
from mergenode.methods.rescale import takes_scale
from mergenode.types import DType
from tests.support.local_node import AMPLE, LocalNode, load_model, merge, same_bits
from tests.support.models import fine_tune, random_base, write_model

MIB = 1 << 20
PROCESS = 200 * MIB
SELF_SUFFICIENT = [name for name in METHODS if not build_method(name, {}).needs]


@pytest.fixture(autouse=True)
def steady_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (memory, engine):
        monkeypatch.setattr(module, "resident_bytes", lambda: PROCESS - MARGIN_BYTES)


def large_base(root: Path) -> Path:
    draw = torch.Generator().manual_seed(0)
    shapes = {"model.embed_tokens.weight": (4096, 128), "layers.0.proj.weight": (512, 512), "layers.0.bias": (512,)}
    base = {name: torch.randn(shape, generator=draw, dtype=torch.bfloat16) for name, shape in shapes.items()}
    return write_model(root / "base", base)


@pytest.mark.parametrize("dtype", [None, DType.F32])
@pytest.mark.parametrize("method", SELF_SUFFICIENT)
def test_every_step_fits_into_the_largest_need(tmp_path: Path, method: str, dtype: DType | None) -> None:
    base = random_base()
    place = write_model(tmp_path / "base", base)
    words = ("own", "norm_match") if takes_scale(build_method(method, {})) else (None,)
    for word in words:
        node = LocalNode(tmp_path / f"node-{word}", place, method, {"scale": word} if word else {}, dtype=dtype)
        node.fold(write_model(tmp_path / f"tuned-{word}", fine_tune(base, 1)))
        built, (limit, spec) = node.engine.method, largest_export(node.described, node.engine.method, dtype)
        statistics = node.engine._statistics(1)
        (tmp_path / f"out-{word}").mkdir()
        common = {"base": node.described, "method": built, "totals": node.head.totals, "device": torch.device("cpu")}
        with node.engine.open_base() as files, closing(statistics):
            work = ExportPass(
                **common, base_files=files, statistics=statistics, staging=tmp_path / f"out-{word}", dtype=dtype
            )
            needs = [step.need_bytes for step in work.steps()]
            work.close()
            if word == "norm_match":
                measuring = UpdatePass(
                    **common, base_files=files, statistics=statistics, folder=tmp_path / f"out-{word}"
                )
                needs += [step.need_bytes for step in measuring.steps()]
                measuring.close()
        assert max(needs) <= limit and spec is not None


@pytest.mark.parametrize("method", ["iso", "swudi"])
def test_a_limit_that_holds_no_export_is_refused_at_the_start_with_the_tensors_name(
    tmp_path: Path, method: str
) -> None:
    base = large_base(tmp_path)
    node = LocalNode(tmp_path / "node", base, method)
    need, spec = largest_export(node.described, node.engine.method, None)
    assert spec is not None and spec.name == "layers.0.proj.weight"
    node.engine.resources = replace(AMPLE, memory_limit=PROCESS + need - 1)
    with pytest.raises(FatalError) as caught:
        node.engine.check_memory()
    assert "'layers.0.proj.weight' [512, 512]" in caught.value.message
    assert "memory_limit" in caught.value.hint
    node.engine.resources = replace(AMPLE, memory_limit=PROCESS + 4 * need)
    assert PROCESS + need <= node.engine.check_memory() <= PROCESS + 4 * need


def test_the_message_says_that_it_is_the_export_that_does_not_fit(tmp_path: Path) -> None:
    node = LocalNode(tmp_path / "node", large_base(tmp_path), "iso")
    need, _ = largest_export(node.described, node.engine.method, None)
    node.engine.resources = replace(AMPLE, memory_limit=PROCESS + need - 1)
    with pytest.raises(FatalError, match=r"cannot hold the export of 'layers\.0\.proj\.weight'"):
        node.engine.export_window()


def test_elementwise_exports_need_little_whatever_the_model(tmp_path: Path) -> None:
    node = LocalNode(tmp_path / "node", large_base(tmp_path), "ties")
    assert largest_export(node.described, node.engine.method, None)[0] < 10 * MIB


@pytest.mark.parametrize("method", ["iso", "ties", "task_arithmetic"])
def test_a_merge_that_does_not_fit_into_one_pass_takes_two_and_gives_the_same(tmp_path: Path, method: str) -> None:
    base = large_base(tmp_path)
    models = [write_model(tmp_path / f"{n}", fine_tune(load_model(base), n, ratio=0.05)) for n in range(4)]
    node = LocalNode(tmp_path / "node", base, method)
    tight = replace(AMPLE, memory_limit=smallest_limit(node))
    wanted = largest_direct(node.described, node.engine.method, None, len(models))
    assert wanted > tight.memory_limit - PROCESS or method == "task_arithmetic"
    for name, resources in (("ample", AMPLE), ("tight", tight)):
        merge(base, tmp_path / name, models, method=method, resources=resources)
    left, right = load_model(tmp_path / "ample"), load_model(tmp_path / "tight")
    assert all(same_bits(left[name], right[name]) for name in left)


def smallest_limit(node: LocalNode) -> int:
    """The least limit, in whole MiB, under which this node starts."""
    for limit in range(PROCESS + MIB, PROCESS + 200 * MIB, MIB):
        node.engine.resources = replace(AMPLE, memory_limit=limit)
        with suppress(FatalError):
            node.engine.check_memory()
            return limit
    raise AssertionError("no limit is enough")
