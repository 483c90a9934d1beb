"""The benchmark of the wire, on a model of nothing: it runs, and its share is that of the whole message."""

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
