"""Faults in which files there are, and where they lead."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from mergenode.errors import RejectReason as R
from mergenode.errors import TransientReason
from tests.support.checkpoints import (
    Q_PROJ,
    load_single,
    lora_tensors,
    write_adapter,
    write_file,
    write_json,
    write_sharded,
)
from tests.support.corpus_case import Cases

DIRECTORY = Cases()
FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
TENSOR = f"{Q_PROJ}.weight"


def _sharded(place: Path, base: Path) -> dict[str, str]:
    write_sharded(place, load_single(base))
    found: dict[str, str] = json.loads((place / INDEX).read_text())["weight_map"]
    return found


def _index(place: Path, weight_map: object) -> None:
    write_json(place / INDEX, {"metadata": {}, "weight_map": weight_map})


@DIRECTORY.bad(R.INDEX_INVALID, INDEX)
def index_not_json(place: Path, base: Path) -> None:
    _sharded(place, base)
    (place / INDEX).write_text("<html>404</html>")


@DIRECTORY.bad(R.INDEX_INVALID, INDEX)
def index_without_weight_map(place: Path, base: Path) -> None:
    _sharded(place, base)
    write_json(place / INDEX, {"metadata": {"total_size": 1}})


@DIRECTORY.bad(R.INDEX_INVALID, INDEX)
def index_of_lists(place: Path, base: Path) -> None:
    _index(place, {name: [shard] for name, shard in _sharded(place, base).items()})


@DIRECTORY.bad(R.INDEX_INVALID, INDEX, "tensor 'a'")
def index_names_a_tensor_twice(place: Path, base: Path) -> None:
    _sharded(place, base)
    (place / INDEX).write_text('{"weight_map":{"a":"x.safetensors","a":"y.safetensors"}}')


@DIRECTORY.bad(R.INDEX_INVALID, INDEX)
def index_nested_bomb(place: Path, base: Path) -> None:
    _sharded(place, base)
    (place / INDEX).write_text('{"metadata":' + "[" * 200_000)


@DIRECTORY.bad(R.SHARD_NAME_UNSAFE, INDEX, TENSOR)
def index_climbs(place: Path, base: Path) -> None:
    _index(place, _sharded(place, base) | {TENSOR: "../secret/model.safetensors"})


@DIRECTORY.bad(R.SHARD_NAME_UNSAFE, INDEX, TENSOR)
def index_absolute(place: Path, base: Path) -> None:
    _index(place, _sharded(place, base) | {TENSOR: str(base / FILE)})


@DIRECTORY.bad(R.SHARD_NAME_UNSAFE, INDEX, TENSOR)
def index_names_a_pickle(place: Path, base: Path) -> None:
    _index(place, _sharded(place, base) | {TENSOR: "pytorch_model.bin"})


@DIRECTORY.bad(R.SHARD_MISSING, INDEX, "model-00002-of-00002.safetensors", settles=True)
def shard_missing(place: Path, base: Path) -> None:
    _sharded(place, base)
    (place / "model-00002-of-00002.safetensors").unlink()


@DIRECTORY.bad(R.TENSOR_DUPLICATED, "model-00002-of-00002.safetensors", TENSOR)
def tensor_in_two_shards(place: Path, base: Path) -> None:
    tensors = load_single(base)
    weight_map = _sharded(place, base)
    for number in ("1", "2"):
        shard = f"model-0000{number}-of-00002.safetensors"
        part = {name: tensors[name] for name, home in weight_map.items() if home == shard}
        write_file(place / shard, part | {TENSOR: tensors[TENSOR]})


@DIRECTORY.bad(R.INDEX_MISMATCH, INDEX, TENSOR)
def index_names_the_wrong_shard(place: Path, base: Path) -> None:
    weight_map = _sharded(place, base)
    other = next(shard for shard in weight_map.values() if shard != weight_map[TENSOR])
    _index(place, weight_map | {TENSOR: other})


@DIRECTORY.bad(R.INDEX_MISMATCH, INDEX, "model.ghost")
def index_names_a_tensor_that_is_nowhere(place: Path, base: Path) -> None:
    _index(place, _sharded(place, base) | {"model.ghost": "model-00001-of-00002.safetensors"})


@DIRECTORY.bad(R.INDEX_MISMATCH, "model-0000", TENSOR)
def index_forgets_a_tensor(place: Path, base: Path) -> None:
    weight_map = _sharded(place, base)
    del weight_map[TENSOR]
    _index(place, weight_map)


@DIRECTORY.bad(R.AMBIGUOUS_WEIGHTS, INDEX, FILE)
def stale_index_beside_a_whole_model(place: Path, base: Path) -> None:
    _sharded(place, base)
    (place / "model-00002-of-00002.safetensors").unlink()
    shutil.copy(base / FILE, place / FILE)


@DIRECTORY.bad(R.AMBIGUOUS_WEIGHTS, "model-00001-of-00002.safetensors")
def shards_without_index(place: Path, base: Path) -> None:
    _sharded(place, base)
    (place / INDEX).unlink()


@DIRECTORY.bad(R.AMBIGUOUS_WEIGHTS, FILE, "model-00001-of-00002.safetensors")
def whole_model_beside_shards_without_index(place: Path, base: Path) -> None:
    shards_without_index(place, base)
    shutil.copy(base / FILE, place / FILE)


@DIRECTORY.bad(R.AMBIGUOUS_WEIGHTS, "a.safetensors.index.json")
def two_indices(place: Path, base: Path) -> None:
    _sharded(place, base)
    shutil.copy(place / INDEX, place / "a.safetensors.index.json")
    (place / INDEX).rename(place / "b.safetensors.index.json")


@DIRECTORY.bad(R.AMBIGUOUS_WEIGHTS, FILE)
def adapter_beside_full_weights(place: Path, base: Path) -> None:
    write_adapter(place, lora_tensors())
    shutil.copy(base / FILE, place / FILE)


@DIRECTORY.bad(R.PICKLE_ONLY, "pytorch_model.bin")
def pickle_directory(place: Path, base: Path) -> None:
    write_json(place / "config.json", {})
    (place / "pytorch_model.bin").write_bytes(b"\x80\x02.")


@DIRECTORY.bad(R.PICKLE_ONLY, "adapter_model.bin")
def pickle_adapter(place: Path, base: Path) -> None:
    write_adapter(place, lora_tensors())
    (place / "adapter_model.safetensors").rename(place / "adapter_model.bin")


@DIRECTORY.bad(R.PICKLE_ONLY, "pickle_file.pt")
def pickle_file(place: Path, base: Path) -> Path:
    place = place.with_suffix(".pt")
    place.write_bytes(b"\x80\x02.")
    return place


@DIRECTORY.bad(R.NO_WEIGHTS, "configuration_only")
def configuration_only(place: Path, base: Path) -> None:
    write_json(place / "config.json", {})


@DIRECTORY.bad(R.NO_WEIGHTS, "adapter_configuration_only")
def adapter_configuration_only(place: Path, base: Path) -> None:
    write_json(place / "adapter_config.json", {"peft_type": "LORA"})


@DIRECTORY.bad(R.CONFIG_INVALID, "config.json")
def configuration_cut_off(place: Path, base: Path) -> None:
    shutil.copytree(base, place)
    (place / "config.json").write_text('{"model_type": "lla')


@DIRECTORY.bad(R.CONFIG_INVALID, "config.json")
def configuration_nested_bomb(place: Path, base: Path) -> None:
    shutil.copytree(base, place)
    (place / "config.json").write_text("[" * 500_000)


@DIRECTORY.bad(R.PATH_UNSAFE, FILE)
def link_out_of_the_registry(place: Path, base: Path) -> None:
    place.mkdir()
    (place / FILE).symlink_to(base / FILE)


@DIRECTORY.bad(R.PATH_UNSAFE, FILE)
def relative_link_out_of_the_registry(place: Path, base: Path) -> None:
    place.mkdir()
    (place / FILE).symlink_to(os.path.relpath(base / FILE, place))


@DIRECTORY.bad(R.PATH_UNSAFE, INDEX)
def index_is_a_link_out(place: Path, base: Path) -> None:
    _sharded(place, base)
    outside = place.parent.parent / "outside.json"
    (place / INDEX).rename(outside)
    (place / INDEX).symlink_to(outside)


@DIRECTORY.bad(R.PATH_UNSAFE, "model-00001-of-00002.safetensors")
def shard_is_an_endless_device(place: Path, base: Path) -> None:
    _sharded(place, base)
    (place / "model-00001-of-00002.safetensors").unlink()
    (place / "model-00001-of-00002.safetensors").symlink_to("/dev/zero")


@DIRECTORY.bad(TransientReason.VANISHED, FILE, settles=True)
def link_to_nothing(place: Path, base: Path) -> None:
    place.mkdir()
    (place / FILE).symlink_to(place / "blob")


@DIRECTORY.bad(R.PATH_UNSAFE, FILE)
def link_to_itself(place: Path, base: Path) -> None:
    place.mkdir()
    (place / FILE).symlink_to(place / FILE)


@DIRECTORY.bad(R.NOT_REGULAR_FILE, FILE)
def fifo_as_weights(place: Path, base: Path) -> None:
    place.mkdir()
    os.mkfifo(place / FILE)


@DIRECTORY.bad(R.NOT_REGULAR_FILE, FILE)
def directory_as_weights(place: Path, base: Path) -> None:
    (place / FILE).mkdir(parents=True)


@DIRECTORY.bad(R.NOT_REGULAR_FILE, "fifo_entry.safetensors")
def fifo_entry(place: Path, base: Path) -> Path:
    place = place.with_suffix(".safetensors")
    os.mkfifo(place)
    return place
