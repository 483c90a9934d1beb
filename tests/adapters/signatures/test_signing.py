"""What is signed holds for exactly these files; what anybody else puts there is evidence, never an error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.checkpoints.regular_file import trusted_root
from mergenode.adapters.peers.pushing.local_model import describe_model
from mergenode.adapters.signatures.keys import word_of
from mergenode.adapters.signatures.signature_file import (
    SIGNATURE_BYTES,
    SignedFile,
    Statement,
    parse_signature,
    signature_path,
)
from mergenode.adapters.signatures.signing import check_signature, sign_checkpoint
from mergenode.gates.evidence import SignatureEvidence, SignatureStatus
from mergenode.types import Digest
from tests.support.checkpoints import write_file
from tests.support.models import factors, random_base, write_lora, write_model

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
WORD = word_of(KEY.public_key())
TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b.weight": torch.ones(4)}
ZEROS = "blake3:" + "0" * 64


@pytest.fixture
def model(tmp_path: Path) -> Path:
    model = write_model(tmp_path / "model", TENSORS)
    sign_checkpoint(model, KEY)
    return model


def check(model: Path, *, content: str | None = None) -> SignatureEvidence:
    return check_signature(model, registry="inbox", trusted=[WORD], content=Digest(content) if content else None)


def status(model: Path) -> SignatureStatus:
    return check(model).status


def test_what_was_signed_is_valid(model: Path) -> None:
    assert check(model) == SignatureEvidence(status=SignatureStatus.VALID, registry="inbox", key=WORD)
    before = signature_path(model).read_bytes()
    sign_checkpoint(model, KEY)
    assert signature_path(model).read_bytes() == before


def test_adapters_and_bare_files_are_signed_too(tmp_path: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in random_base().items()}
    lora = write_lora(tmp_path / "lora", factors(["layers.0.attn.q_proj"], shapes, 1))
    bare = write_file(tmp_path / "bare.safetensors", TENSORS)
    for path in (lora, bare):
        written = sign_checkpoint(path, KEY)
        assert written == signature_path(path) and written.parent in (path, path.parent)
        assert status(path) is SignatureStatus.VALID
    assert written.name == "bare.safetensors.sig.json"


def test_other_shards_with_the_same_tensors_are_what_was_signed(model: Path) -> None:
    signature = signature_path(model).read_bytes()
    again = write_model(model.with_name("sharded"), TENSORS, shards=2)
    signature_path(again).write_bytes(signature)
    assert status(again) is SignatureStatus.VALID


def test_snapshots_of_the_cache_of_a_hub_link_to_their_files(model: Path, tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "hub/snapshots/1", tmp_path / "hub/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for name in ("model.safetensors", "config.json"):
        (model / name).rename(blobs / name)
        (snapshot / name).symlink_to(blobs / name)
    sign_checkpoint(snapshot, KEY)
    named = check_signature(snapshot, registry="ingest", trusted=[WORD], root=trusted_root(snapshot))
    assert named.status is SignatureStatus.VALID
    assert check(snapshot, content=content_digest(snapshot, root=trusted_root(snapshot))).status is (
        SignatureStatus.INVALID
    ), "nobody vouched for links that lead out"


def test_a_push_takes_the_signature_along(model: Path) -> None:
    with describe_model(model) as pushed:
        assert pushed.files[signature_path(model).name] == signature_path(model).read_bytes()


def test_changed_weights(model: Path) -> None:
    write_file(model / "model.safetensors", {**TENSORS, "b.weight": torch.zeros(4)})
    found = check(model)
    assert found.status is SignatureStatus.INVALID and "weights" in found.detail


def test_weights_that_were_read_before_are_those_that_count(model: Path) -> None:
    read = content_digest(model)
    write_file(model / "model.safetensors", {**TENSORS, "b.weight": torch.zeros(4)})
    assert check(model, content=read).status is SignatureStatus.VALID
    assert check(model, content=ZEROS).status is SignatureStatus.INVALID


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        (lambda model: (model / "config.json").write_text("{}"), "config.json is not the file that was signed"),
        (lambda model: (model / "config.json").unlink(), "config.json is gone"),
        (lambda model: (model / "adapter_config.json").write_text("{}"), "adapter_config.json was not signed"),
        (lambda model: (model / "model.gram.safetensors").write_bytes(b"x"), "model.gram.safetensors was not signed"),
        (lambda model: _replaced_by_link(model / "config.json"), "leads out of"),
    ],
)
def test_other_files_that_matter(model: Path, change: Callable[[Path], object], detail: str) -> None:
    read = content_digest(model)
    change(model)
    found = check(model, content=read)
    assert found.status is SignatureStatus.INVALID and detail in found.detail


def _replaced_by_link(path: Path) -> None:
    outside = path.parent.with_name("outside.json")
    outside.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(outside)


def test_side_cars_are_covered_but_may_stay_behind(model: Path) -> None:
    side_car = model / "model.fisher.safetensors"
    side_car.write_bytes(b"statistics")
    sign_checkpoint(model, KEY)
    assert status(model) is SignatureStatus.VALID
    side_car.write_bytes(b"Statistics")
    assert status(model) is SignatureStatus.INVALID
    side_car.unlink()
    assert status(model) is SignatureStatus.VALID


def test_files_that_nobody_reads_are_not_covered(model: Path) -> None:
    (model / "README.md").write_text("hello")
    assert status(model) is SignatureStatus.VALID


def test_no_signature_another_key_another_statement(model: Path) -> None:
    document = json.loads(signature_path(model).read_bytes())
    sign_checkpoint(model, OTHER)
    found = check(model)
    assert (found.status, found.key) == (SignatureStatus.UNTRUSTED, word_of(OTHER.public_key()))
    forged = json.loads(signature_path(model).read_bytes()) | {"key": WORD}
    signature_path(model).write_text(json.dumps(forged))
    assert status(model) is SignatureStatus.INVALID
    document["statement"]["content"] = ZEROS
    signature_path(model).write_text(json.dumps(document))
    found = check(model, content=ZEROS)
    assert found.status is SignatureStatus.INVALID and "not one of its statement" in found.detail
    signature_path(model).unlink()
    assert status(model) is SignatureStatus.MISSING


def _set(*path: str, value: Any) -> Callable[[dict[str, Any]], object]:
    def apply(document: dict[str, Any]) -> None:
        place = document
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return apply


FILE = {"size": 1, "blake3": "0" * 64}
HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "another schema": _set("schema", value="mergenode.signature/2"),
    "schema a list": _set("schema", value=["x"] * 100),
    "key without kind": _set("key", value="00" * 32),
    "key in upper case": _set("key", value="ed25519:" + "AB" * 32),
    "key and a line": _set("key", value=WORD + "\n"),
    "key a number": _set("key", value=7),
    "signature too short": _set("signature", value="00"),
    "signature null": _set("signature", value=None),
    "content a path": _set("statement", "content", value="../../etc/passwd"),
    "files a list": _set("statement", "files", value=[]),
    "a path": _set("statement", "files", "../config.json", value=FILE),
    "an absolute path": _set("statement", "files", "/etc/passwd", value=FILE),
    "a path to a side-car": _set("statement", "files", "../x.gram.safetensors", value=FILE),
    "weights": _set("statement", "files", "model.safetensors", value=FILE),
    "a size that is true": _set("statement", "files", "config.json", value={**FILE, "size": True}),
    "a negative size": _set("statement", "files", "config.json", value={**FILE, "size": -1}),
    "a huge size": _set("statement", "files", "config.json", value={**FILE, "size": 1 << 63}),
    "a size with a fraction": _set("statement", "files", "config.json", value={**FILE, "size": 1.0}),
    "an entry without digest": _set("statement", "files", "config.json", value={"size": 1}),
    "an entry with more": _set("statement", "files", "config.json", value={**FILE, "mode": 7}),
    "many files": _set("statement", "files", value={f"x{n}.gram.safetensors": FILE for n in range(101)}),
    "statement null": _set("statement", value=None),
    "one more key": _set("more", value=1),
    "one key less": lambda document: document.pop("schema"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_documents_are_invalid(model: Path, name: str) -> None:
    document = json.loads(signature_path(model).read_bytes())
    HOSTILE[name](document)
    signature_path(model).write_text(json.dumps(document))
    found = check(model)
    assert found.status is SignatureStatus.INVALID and len(found.detail) < 500


@pytest.mark.parametrize(
    "data",
    [
        b"", b"null", b"[]", b"\xff\xfe", b"{", b"[" * 60_000, b'{"schema": NaN}', b'{"a": 1, "a": 1}',
        b"1" * 60_000, b'{"a":' * 10_000, b" " * (SIGNATURE_BYTES + 1),
    ],
    ids=range(11),
)  # fmt: skip
def test_hostile_bytes_are_invalid(model: Path, data: bytes) -> None:
    signature_path(model).write_bytes(data)
    assert status(model) is SignatureStatus.INVALID


def test_what_is_no_regular_file_is_invalid_and_never_waited_for(model: Path) -> None:
    place = signature_path(model)
    data = place.read_bytes()
    place.unlink()
    os.mkfifo(place)
    assert status(model) is SignatureStatus.INVALID
    place.unlink()
    place.mkdir()
    assert status(model) is SignatureStatus.INVALID
    place.rmdir()
    outside = model.with_name("outside.sig.json")
    outside.write_bytes(data)
    place.symlink_to(outside)
    assert status(model) is SignatureStatus.INVALID
    outside.unlink()
    assert status(model) is SignatureStatus.INVALID, "a link to nothing is no missing signature"


def test_a_huge_file_is_not_read(model: Path) -> None:
    os.truncate(signature_path(model), 1 << 40)
    found = check(model)
    assert found.status is SignatureStatus.INVALID and "at most" in found.detail


NAMES = st.sampled_from(["config.json", "adapter_config.json", "a.gram.safetensors", "b.fisher.safetensors"])
STATEMENTS = st.builds(
    Statement,
    content=st.binary(min_size=32, max_size=32).map(lambda raw: Digest("blake3:" + raw.hex())),
    files=st.dictionaries(
        NAMES, st.builds(SignedFile, st.integers(0, 1 << 62), st.binary(min_size=32, max_size=32).map(bytes.hex))
    ),
)


@settings(deadline=None, max_examples=50)
@given(one=STATEMENTS, other=STATEMENTS)
def test_equal_statements_have_equal_messages_and_others_do_not(one: Statement, other: Statement) -> None:
    assert (one.message() == other.message()) == (one == other)
    backwards = Statement(one.content, dict(reversed(one.files.items())))
    assert backwards.message() == one.message()


@settings(deadline=None, max_examples=100)
@given(data=st.binary(max_size=200) | st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["schema", "key", "files"]), inner),
    max_leaves=5,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_bytes_are_refused_with_a_reason(data: bytes) -> None:
    with pytest.raises(ValueError) as raised:
        parse_signature(data)
    assert str(raised.value)
