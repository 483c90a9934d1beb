"""From settings to parts: what is refused before anything is accepted, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mergenode.bootstrap.parts import PUBLISH_DTYPES, limits_of, method_of, threads_of
from mergenode.errors import FatalError, MergenodeError, UsageError
from mergenode.settings import load_settings
from mergenode.settings.publishing import PublishSettings
from tests.support.checkpoints import base_tensors, finetuned, write_file, write_sharded
from tests.support.real_node import RealNode


@pytest.fixture
def node(tmp_path: Path) -> RealNode:
    return RealNode(tmp_path)


def refused(node: RealNode) -> FatalError:
    with pytest.raises(FatalError) as caught:
        node.run_once()
    assert "\n" not in caught.value.message and caught.value.hint
    return caught.value


def test_a_base_that_is_not_there(node: RealNode) -> None:
    node.base.rename(node.root / "elsewhere")
    error = refused(node)
    assert "base" in error.message and str(node.base) in error.message


def test_a_base_that_is_damaged(node: RealNode) -> None:
    file = node.base / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    assert "model.safetensors" in refused(node).message
    assert not (node.state / "statistics").exists() or not list((node.state / "statistics").iterdir())


def test_another_base_under_an_old_state(node: RealNode) -> None:
    node.put("a", 1)
    node.run_once()
    before = node.manifest()["base"]
    write_file(node.base / "model.safetensors", finetuned(base_tensors(), seed=77))
    error = refused(node)
    assert before in error.message and "this state directory was made for" in error.message
    assert "node.state" in error.hint


def test_the_same_base_in_other_files_is_the_same_base(node: RealNode) -> None:
    node.put("a", 1)
    node.run_once()
    (node.base / "model.safetensors").unlink()
    write_sharded(node.base, base_tensors())
    node.put("b", 2)
    assert node.run_once().complete and node.versions() == [1, 2]


@pytest.mark.parametrize(
    ("method", "named"),
    [
        ({"name": "average"}, "method opcm, but the settings ask for average"),
        ({"name": "opcm", "alpha": 0.25}, "other options of method opcm: alpha 0.5 (the settings: 0.25)"),
    ],
)
def test_another_method_under_an_old_state(node: RealNode, method: dict[str, Any], named: str) -> None:
    node.put("a", 1)
    node.run_once()
    node.configure(method=method)
    error = refused(node)
    assert error.message == f"this state directory was made with {named}" and isinstance(error, UsageError)


def test_options_of_every_kind_survive_a_restart(node: RealNode) -> None:
    node.configure(method={"name": "opcm", "alpha": 0, "exclude": ["*embed*"], "include": ["*q_proj*"]})
    node.put("a", 1)
    assert node.run_once().complete
    assert node.run_once().complete


def test_a_memory_limit_that_cannot_hold_a_fold(node: RealNode) -> None:
    node.configure(engine={"threads": 1, "device": "cpu", "memory_limit": "16MiB"})
    node.put("a", 1)
    error = refused(node)
    assert "memory" in error.message + error.hint
    assert node.facts("discovered", "folded") == []


def test_a_state_directory_that_cannot_be_made(node: RealNode) -> None:
    (node.root / "state").write_text("a file")
    with pytest.raises(MergenodeError) as caught:
        node.run_once()
    assert str(node.state) in str(caught.value)


def test_settings_reach_the_parts(node: RealNode) -> None:
    node.configure(
        method={"name": "task_arithmetic", "scale": 0.7},
        validation={"max_header": "1MiB", "max_tensors": 7, "max_checkpoint": "5GiB"},
        engine={"threads": 3},
    )
    settings = load_settings(node.config)
    limits = limits_of(settings)
    assert (limits.header_bytes, limits.tensors, limits.checkpoint_bytes) == (1 << 20, 7, 5 << 30)
    assert (method_of(settings).name, method_of(settings).options["scale"]) == ("task_arithmetic", 0.7)
    assert threads_of(settings) == 3


def test_auto_threads_are_those_this_process_may_use(node: RealNode) -> None:
    node.configure(engine={"threads": "auto"})
    assert threads_of(load_settings(node.config)) >= 1


def test_every_publish_type_of_the_settings_has_its_meaning() -> None:
    allowed = PublishSettings.model_fields["dtype"].annotation
    assert set(PUBLISH_DTYPES) == set(allowed.__args__)  # type: ignore[union-attr]  # a Literal


@pytest.mark.parametrize(("dtype", "stored"), [("float32", "F32"), ("float16", "F16"), ("bfloat16", "BF16")])
def test_the_published_type_is_that_of_the_settings(node: RealNode, dtype: str, stored: str) -> None:
    from safetensors import safe_open

    node.configure(publish={"dtype": dtype})
    node.put("a", 1)
    node.run_once()
    with safe_open(node.published / "latest/model.safetensors", "pt") as file:
        kinds = {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a mapping
    assert kinds == {stored, "I64", "BOOL"}
    assert node.manifest()["dtype"] == stored


def test_a_null_limit_accepts_any_norm(node: RealNode) -> None:
    write_file(node.inbox / "far.safetensors", finetuned(base_tensors(), step=1.0))
    node.configure(validation={"max_relative_norm": None})
    node.run_once()
    assert node.outcomes() == {"far.safetensors": ["folded"]}


def test_without_that_it_is_refused(node: RealNode) -> None:
    write_file(node.inbox / "far.safetensors", finetuned(base_tensors(), step=1.0))
    write_file(node.inbox / "other.safetensors", base_tensors(seed=5))
    node.run_once()
    assert node.outcomes() == {"far.safetensors": ["norm_too_large"], "other.safetensors": ["other_base"]}
