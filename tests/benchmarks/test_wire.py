"""The benchmarks of the wire, on models of nothing: they run, and their shares are those of whole messages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.wire.__main__ import LIMITED_RATIO, main


def test_it_measures_and_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--work", str(tmp_path), "--preset", "tiny"])
    rows = json.loads((tmp_path / "wire.json").read_text())
    shares = [row["wire_bytes"] / row["weight_bytes"] for row in rows if row["ratio"] == LIMITED_RATIO]
    assert ended.value.code == (0 if min(shares) <= 0.27 else 1)
    assert min(shares) == shares[0] < 0.3 and 0.65 < max(shares) < 0.8
    assert f"{min(shares):.3f} of the bytes" in capsys.readouterr().out


def test_whole_transfers_are_measured_and_judged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--mib", "4", "--line-mib", "1", "--repeats", "1", "--preset", "tiny"]
    with pytest.raises(SystemExit) as ended:
        main(["--work", str(tmp_path), *sizes, "transport"])
    found = json.loads((tmp_path / "transport.json").read_text())
    assert [run["what"] for run in found["runs"]] == ["tls", "node", "line", "tuned"]
    assert all(run["client_cpu"] > 0 and run["server_cpu"] >= 0 and run["client_mib"] > 10 for run in found["runs"])
    assert 0 < found["tuned_share"] < 1
    printed = capsys.readouterr().out
    assert ended.value.code == (1 if "MISS" in printed else 0) and printed.count("ok   ") + printed.count("MISS ") == 5
