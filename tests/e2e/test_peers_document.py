"""The examples of docs/peers.md, run as they are written."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from mergenode.settings import load_settings
from tests.e2e.test_readme import commands
from tests.support.real_node import ROOT, environment

DOCUMENT = (ROOT / "docs/peers.md").read_text()
SETTINGS = re.compile(r"^<!-- file: node.yaml -->\n+```yaml\n(.*?)^```", re.DOTALL | re.MULTILINE)


def test_certificates_are_made_as_the_document_shows(tmp_path: Path) -> None:
    found = [command for command in commands(DOCUMENT) if " certs " in command.text]
    assert [command.text.split()[2] for command in found] == ["init", "node", "admin", "show", "token"]
    tool = tmp_path / "mergenode"
    tool.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m mergenode "$@"\n')
    tool.chmod(0o755)
    place = tmp_path / "place"
    place.mkdir()
    for command in found:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.text.replace("mergenode", str(tool), 1)],
            cwd=place, env=environment(), capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {command.text}\n{done.stdout}{done.stderr}"
        missing = command.words() - set(re.findall(r"[A-Za-z_]{4,}", done.stdout))
        assert not missing, f"$ {command.text}\n{done.stdout}\nthe document also shows {sorted(missing)}"
    assert (place / "team-x.token").read_text().count(".") == 2

    (text,) = SETTINGS.findall(DOCUMENT)
    (place / "node.yaml").write_text(text)
    peers = load_settings(place / "node.yaml", {}).peers
    assert peers.tls.certificate == place / "certs/node-a/tls.crt" and peers.tls.certificate.exists()
    assert peers.tokens.keys is not None and peers.tokens.keys.exists()
