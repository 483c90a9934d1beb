"""sign and keygen: from a key to a signature that a node which trusts it takes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from mergenode.adapters.signatures.signing import check_signature
from mergenode.gates.evidence import SignatureStatus


def test_from_a_key_to_a_signature(run, tmp_path: Path) -> None:
    key, weights = tmp_path / "key.pem", tmp_path / "tuned.safetensors"
    save_file({"a.weight": np.arange(6, dtype=np.float32)}, weights)
    made = run("keygen", key)
    assert (made.exit_code, made.stderr) == (0, "")
    word = made.stdout.strip()
    assert run("keygen", key, "--show").stdout.strip() == word
    assert json.loads(run("keygen", key, "--show", "--json").stdout) == {"file": str(key), "key": word}
    signed = run("sign", weights, "--key", key)
    assert signed.stdout == f"{weights}.sig.json: signed with {word}\n"
    assert json.loads(run("sign", weights, "--key", key, "--json").stdout)["key"] == word
    assert check_signature(weights, registry="x", trusted=[word]).status is SignatureStatus.VALID


def test_what_is_missing_is_told(run, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    nothing = run("sign", tmp_path / "nothing", "--key", key)
    assert nothing.exit_code == 2 and "no such checkpoint" in nothing.stderr
    save_file({"a": np.zeros(1, dtype=np.float32)}, tmp_path / "a.safetensors")
    without = run("sign", tmp_path / "a.safetensors", "--key", key)
    assert without.exit_code == 2 and "keygen" in without.stderr
    assert run("keygen", key).exit_code == 0
    again = run("keygen", key)
    assert again.exit_code == 2 and "--force" in again.stderr
    assert run("keygen", key, "--show", "--force").exit_code == 2
    (tmp_path / "empty").mkdir()
    assert run("sign", tmp_path / "empty", "--key", key).exit_code == 1
