"""merge: the plan, the refusals, the result; nothing half-done is left anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mergenode.adapters.engines.local import one_shot
from mergenode.types import DType
from tests.support.checkpoints import (
    base_tensors,
    finetuned,
    load_single,
    lora_tensors,
    write_adapter,
    write_file,
    write_sharded,
    write_single,
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base and two fine-tunes of it in the current directory."""
    base = base_tensors()
    write_single(tmp_path / "base", base)
    (tmp_path / "base/tokenizer.json").write_text("{}")
    write_single(tmp_path / "a", finetuned(base, seed=1))
    write_single(tmp_path / "b", finetuned(base, seed=2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def merge(run, place: Path):
    def invoke(*args: object, base: object = "base", output: object = "out") -> Any:
        return run("merge", "--base", base, "--output", output, "--threads", 1, *args)

    return invoke


def contents(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_the_average_is_the_mean_of_the_models(merge, place: Path) -> None:
    result = merge("--method", "average", "a", "b")
    assert result.exit_code == 0, result.stderr
    base, a, b, merged = (load_single(place / name) for name in ("base", "a", "b", "out"))
    for name, tensor in base.items():
        if not tensor.is_floating_point():
            assert torch.equal(merged[name], tensor)
            continue
        expected = (a[name].double() + b[name].double()) / 2
        tolerance = {torch.bfloat16: 2**-8, torch.float16: 2**-11}.get(tensor.dtype, 1e-6)
        assert torch.allclose(merged[name].double(), expected, rtol=tolerance, atol=1e-6), name
        assert merged[name].dtype == tensor.dtype


@pytest.mark.parametrize("method", ["opcm", "average"])
def test_a_single_model_comes_back_bit_for_bit(merge, place: Path, method: str) -> None:
    assert merge("--method", method, "a").exit_code == 0
    a, merged = load_single(place / "a"), load_single(place / "out")
    for name, tensor in a.items():
        if tensor.dtype in (torch.bfloat16, torch.float16):
            assert torch.equal(merged[name], tensor), name


def test_the_result_is_a_whole_checkpoint(merge, place: Path) -> None:
    result = merge("a", "b")
    assert contents(place / "out") == [
        "README.md", "config.json", "mergenode.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    manifest = json.loads((place / "out/mergenode.json").read_bytes())
    assert [entry["name"] for entry in manifest["contributions"]] == ["a", "b"]
    assert (manifest["method"]["name"], manifest["count"]) == ("opcm", 2)
    assert result.stdout.splitlines()[-1] == "written: out"
    assert contents(place) == ["a", "b", "base", "out"]


def test_order_matters_to_opcm_and_not_to_the_average(merge, place: Path) -> None:
    for method in ("opcm", "average"):
        for number, order in enumerate((("a", "b"), ("b", "a"))):
            merge("--method", method, *order, output=f"{method}{number}")

    def digests(name: str) -> dict[str, str]:
        return dict(json.loads((place / name / "mergenode.json").read_bytes())["tensors"])

    assert digests("opcm0") != digests("opcm1")
    assert digests("average0") == digests("average1")


def test_files_adapters_and_shards_together(merge, place: Path) -> None:
    write_adapter(place / "lora", lora_tensors())
    write_file(place / "bare.safetensors", finetuned(base_tensors(), seed=3))
    write_sharded(place / "sharded", finetuned(base_tensors(), seed=4))
    result = merge("lora", "bare.safetensors", "sharded", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert [entry["kind"] for entry in told["contributions"]] == ["adapter", "full", "full"]
    assert told["output"] == "out"


def test_json_is_the_manifest(merge, place: Path) -> None:
    told = json.loads(merge("a", "--json").stdout)
    assert told.pop("output") == "out"
    assert told == json.loads((place / "out/mergenode.json").read_bytes())


def test_the_plan_comes_first_and_says_what_it_takes(merge) -> None:
    plan = merge("a", "b").stdout.splitlines()[0]
    assert plan.startswith("plan: 2 models of")
    for word in ("read", "write", "disk", "memory at most", "about"):
        assert word in plan


def test_plan_alone_writes_nothing(merge, place: Path) -> None:
    before = contents(place)
    result = merge("--plan", "a", "b", output="deep/down/out")
    assert result.exit_code == 0 and result.stdout.startswith("plan: 2 models")
    told = json.loads(merge("--plan", "--json", "a", "b", output="deep/down/out").stdout)
    assert told["models"] == 2 and told["read_bytes"] > 0 and told["disk_needed"] < told["disk_free"]
    assert contents(place) == before


def test_missing_directories_of_the_output_are_made(merge, place: Path) -> None:
    assert merge("a", output="deep/down/out").exit_code == 0
    assert contents(place / "deep/down") == ["out"]


@pytest.mark.parametrize("word", ["own", "norm_match"])
def test_the_scale_is_told_beside_that_of_the_norm_rule(merge, place: Path, word: str) -> None:
    result = merge("--method", "task_arithmetic", "--set", f"scale={word}", "a", "b")
    scale = json.loads((place / "out/mergenode.json").read_bytes())["scale"]
    assert scale["own"] == 0.3 and scale["used"] == (0.3 if word == "own" else scale["norm_rule"])
    assert scale["update_norm"] == pytest.approx(scale["mean_norm"] * scale["used"] / scale["norm_rule"])
    line = next(line for line in result.stdout.splitlines() if line.startswith("scale "))
    assert f"{scale['used']:.4g}" in line and f"own 0.3, norm rule {scale['norm_rule']:.4g}" in line


def test_a_merge_has_nobody_to_ask_for_scores(merge, place: Path) -> None:
    before = contents(place)
    refused(merge("--method", "iso", "--set", "scale=evaluate", "a"), 2, "iso: scale evaluate", "norm_match")
    assert contents(place) == before


def refused(result: Any, code: int, *words: str) -> None:
    assert result.exit_code == code, (result.stdout, result.stderr)
    assert result.stderr.startswith("error: ")
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_too_little_disk_is_refused_before_anything_is_written(merge, place: Path, monkeypatch) -> None:
    monkeypatch.setattr(one_shot, "free_bytes", lambda path: 1000)
    before = contents(place)
    refused(merge("a", "b"), 1, "disk", "free", "hint: ")
    assert contents(place) == before


def test_too_little_memory_is_refused_before_anything_is_written(merge, place: Path) -> None:
    before = contents(place)
    refused(merge("--memory-limit", "16MiB", "a", "b"), 1, "memory", "hint: ")
    assert contents(place) == before


def diverged(place: Path) -> None:
    tensors = finetuned(base_tensors(), seed=5)
    tensors["model.norm.weight"][0] = float("nan")
    write_single(place / "bad", tensors)


def other_model(place: Path) -> None:
    write_single(place / "bad", base_tensors(seed=9))


def other_shape(place: Path) -> None:
    tensors = base_tensors()
    tensors["model.norm.weight"] = torch.ones(33)
    write_single(place / "bad", tensors)


def untouched(place: Path) -> None:
    write_single(place / "bad", base_tensors())


def pickled(place: Path) -> None:
    (place / "bad").mkdir()
    (place / "bad/pytorch_model.bin").write_bytes(b"\x80\x04.")


def half_copied(place: Path) -> None:
    write_single(place / "bad", finetuned(base_tensors(), seed=5))
    file = place / "bad/model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


@pytest.mark.parametrize("spoil", [diverged, other_model, other_shape, untouched, pickled, half_copied])
@pytest.mark.parametrize("method", ["opcm", "average"])
def test_a_refused_model_is_named_and_nothing_is_left(merge, place: Path, spoil, method: str) -> None:
    spoil(place)
    before = contents(place)
    refused(merge("--method", method, "a", "bad", "b"), 1, "bad")
    assert contents(place) == before


def test_the_same_weights_twice_are_refused_and_both_are_named(merge, place: Path) -> None:
    write_single(place / "copy", load_single(place / "a"))
    refused(merge("a", "b", "copy"), 1, "copy: holds the same weights as a")
    assert not (place / "out").exists()


@pytest.mark.parametrize("kind", ["full", "file", "link", "dangling"])
def test_an_existing_output_is_never_touched(merge, place: Path, kind: str) -> None:
    out = place / "out"
    if kind == "full":
        out.mkdir()
        (out / "precious").write_text("x")
    elif kind == "file":
        out.write_text("precious")
    else:
        out.symlink_to("a" if kind == "link" else "nowhere")
    refused(merge("a"), 2, "out: already exists")
    assert out.is_symlink() == (kind in ("link", "dangling"))
    assert contents(place / "a") == ["config.json", "model.safetensors"]


def test_an_empty_output_directory_is_filled(merge, place: Path) -> None:
    (place / "out").mkdir()
    assert merge("a").exit_code == 0
    assert (place / "out/model.safetensors").is_file()


def test_the_current_directory_is_no_output(merge, place: Path, monkeypatch) -> None:
    (place / "here").mkdir()
    monkeypatch.chdir(place / "here")
    refused(merge("../a", base="../base", output="."), 2, ".: already exists")


def test_an_output_below_a_file_is_refused(merge, place: Path) -> None:
    (place / "file").write_text("x")
    refused(merge("a", output="file/out"), 2, "file is not a directory")


def test_leftovers_of_a_killed_merge_are_removed(merge, place: Path) -> None:
    for name in (".out.merging", ".out.statistics"):
        (place / name).mkdir()
        (place / name / "stale.safetensors").write_bytes(b"x")
    assert merge("a", "b").exit_code == 0
    assert "stale.safetensors" not in contents(place / "out")
    assert contents(place) == ["a", "b", "base", "out"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--method", "opmc"], ["no method 'opmc'", "Did you mean 'opcm'?"]),
        (["--set", "alhpa=0.5"], ["no option 'alhpa'", "Did you mean 'alpha'?"]),
        (["--set", "alpha=2"], ["alpha", "2", "hint: "]),
        (["--set", "alpha=much"], ["alpha", "much"]),
        (["--set", "variant=blok"], ["variant", "blok", "block"]),
        (["--set", "alpha"], ["'alpha' is not NAME=VALUE", "--set alpha=0.5"]),
        (["--set", "=1"], ["is not NAME=VALUE"]),
        (["--method", "average", "--set", "x=1"], ["no option 'x'", "options are: profile"]),
        (["--weight", "1"], ["1 --weight for 2 models"]),
        (["--weight", "1", "--weight", "nan"], ["--weight nan"]),
        (["--weight", "1", "--weight", "inf"], ["--weight inf"]),
        (["--weight", "1", "--weight", "0"], ["--weight 0"]),
        (["--weight", "1", "--weight", "-1"], ["--weight -1"]),
        (["--weight", "1", "--weight", "heavy"], ["'--weight'", "heavy"]),
        (["--max-relative-norm", "nan"], ["--max-relative-norm nan"]),
        (["--memory-limit", "much"], ["--memory-limit 'much'", "2GiB"]),
        (["--threads", "0"], ["--threads '0'"]),
        (["--threads", "²"], ["--threads '²'"]),
        (["--dtype", "int8"], ["int8"]),
        (["--methid", "opcm"], ["unknown option '--methid'", "'--method'"]),
    ],
)
def test_wrong_usage_is_one_clear_line_and_exit_2(run, place: Path, args: list[str], words: list[str]) -> None:
    result = run("merge", "--base", "base", "--output", "out", *args, "a", "b")
    refused(result, 2, *words)
    assert len(result.stderr.splitlines()) <= 2 and result.stdout == ""
    assert not (place / "out").exists()


@pytest.mark.parametrize(("base", "model"), [("nowhere", "a"), ("base", "nowhere")])
def test_what_is_not_there_is_named(merge, base: str, model: str) -> None:
    refused(merge(model, base=base), 2, "nowhere: no such file or directory")


def test_a_misspelt_path_names_the_nearest_one(merge) -> None:
    refused(merge("a", base="bsae"), 2, "Did you mean")


def test_no_model_is_wrong_usage(merge) -> None:
    refused(merge(), 2, "missing argument 'MODELS...'")


def test_weights_scale_their_model(merge, place: Path) -> None:
    """The weighted mean: three to one."""
    assert merge("--method", "average", "--weight", 3, "--weight", 1, "a", "b").exit_code == 0
    a, b, merged = (load_single(place / name)["model.norm.weight"].double() for name in ("a", "b", "out"))
    assert torch.allclose(merged, (3 * a + b) / 4, rtol=1e-6)


@pytest.mark.parametrize("option", ["scale=1e39", 'profile={"*":1e300}'])
def test_a_factor_that_no_model_stands_is_wrong_usage(merge, place: Path, option: str) -> None:
    before = contents(place)
    refused(merge("--method", "ties", "--set", option, "a"), 2, "ties: option", "1000000")
    assert contents(place) == before


def test_options_reach_the_method(merge, place: Path) -> None:
    for scale in ("0.5", "1"):
        assert merge("--method", "task_arithmetic", "--set", f"scale={scale}", "a", output=f"s{scale}").exit_code == 0
    base, half, whole = (load_single(place / name)["model.norm.weight"].double() for name in ("base", "s0.5", "s1"))
    assert torch.allclose(half - base, (whole - base) / 2, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(("dtype", "stored"), [("float32", DType.F32), ("float16", DType.F16)])
def test_the_published_type(merge, place: Path, dtype: str, stored: DType) -> None:
    (place / "base/config.json").write_text('{"torch_dtype": "bfloat16"}')
    assert merge("--dtype", dtype, "a").exit_code == 0
    kinds = {tensor.dtype for tensor in load_single(place / "out").values() if tensor.is_floating_point()}
    assert kinds == {getattr(torch, dtype)}
    assert json.loads((place / "out/config.json").read_bytes()) == {"torch_dtype": dtype}
    assert json.loads((place / "out/mergenode.json").read_bytes())["dtype"] == stored


def test_two_runs_give_the_same_bytes(merge, place: Path) -> None:
    merge("a", "b", output="one")
    merge("a", "b", "--threads", 2, output="two")
    for name in contents(place / "one"):
        assert (place / "one" / name).read_bytes() == (place / "two" / name).read_bytes(), name


def test_hostile_names_reach_neither_terminal_nor_card(merge, place: Path) -> None:
    hostile = "evil\x1b[31m|](x)"
    (place / "a").rename(place / hostile)
    result = merge(hostile)
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stdout
    assert hostile not in (place / "out/README.md").read_text()
