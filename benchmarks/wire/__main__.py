"""``python -m benchmarks.wire --work DIR``: what fine-tunes cost between two nodes; exit 1 above the limit.

``python -m benchmarks.wire --work DIR transport``: the same for whole transfers over sockets, with mTLS.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.models import main as generate
from benchmarks.wire.measuring import Travel, described, travel
from benchmarks.wire.transport import judge, measure, measure_line, measure_tuned
from mergenode.adapters.engines.local.allocator import tune_allocator
from mergenode.wire.encoding import Encoding

LIMIT = 0.27
"""Share of its bytes in which a fine-tune at ``LIMITED_RATIO`` has to travel."""
LIMITED_RATIO = 0.003
RATIOS = (0.001, LIMITED_RATIO, 0.01, 0.03)
ENCODINGS = (Encoding.ORDERED_SPLIT_ZSTD, Encoding.XOR_SPLIT_ZSTD, Encoding.SPLIT_ZSTD)


def main(arguments: list[str] | None = None) -> None:
    """Generate what is missing, measure, print a table, write ``wire.json``."""
    options = _options(arguments)
    if options.part == "transport":
        sys.exit(0 if _transport(options) else 1)
    tune_allocator()  # as in a node
    rows: list[tuple[float, Encoding, Travel]] = []
    for ratio in RATIOS:
        models = options.work / f"models-{options.preset}-{ratio}"
        if not (models / "tuned-1" / "config.json").exists():
            sizes = ["--preset", options.preset, "--fine-tunes", "1"]
            generate([*sizes, "--out", str(models), "--seed", "0", "--ratio", str(ratio)])
        for encoding in ENCODINGS if ratio == LIMITED_RATIO else ENCODINGS[:2]:
            rows.append((ratio, encoding, travel(models / "base", models / "tuned-1", {encoding})))
    print("| change | encoding | share of bytes | encode CPU-s/GB | frames | decode | BLAKE3 |")
    print("|---|---|---|---|---|---|---|")
    for ratio, encoding, cost in rows:
        parts = (cost.encode_cpu, cost.frame_cpu, cost.decode_cpu, cost.hash_cpu)
        figures = " | ".join(f"{cost.per_gb(seconds):.2f}" for seconds in parts)
        print(f"| {ratio:.1%} | {encoding.name.lower()} | {cost.share:.3f} | {figures} |")
    manifest, describing, hashing = described(options.work / f"models-{options.preset}-{LIMITED_RATIO}" / "tuned-1")
    per_gb = 1e9 / manifest.total_bytes
    print(f"\nmanifest: {len(manifest.packed)} bytes for {manifest.block_count} blocks, {manifest.total_bytes} bytes;")
    print(f"describe {describing * per_gb:.2f} CPU-s/GB, read and hash alone {hashing * per_gb:.2f}")
    found = [{"ratio": ratio, "encoding": encoding.name, **asdict(cost)} for ratio, encoding, cost in rows]
    (options.work / "wire.json").write_text(json.dumps(found, indent=2) + "\n")
    best = min(cost.share for ratio, _, cost in rows if ratio == LIMITED_RATIO)
    print(f"at {LIMITED_RATIO:.1%}: {best:.3f} of the bytes, the limit is {LIMIT}")
    sys.exit(0 if best <= LIMIT else 1)


def _transport(options: argparse.Namespace) -> bool:
    runs = measure(options.work, options.mib << 20, options.repeats)
    line = measure_line(options.work, options.line_mib << 20)
    return judge(runs, line, measure_tuned(options.work, options.preset, LIMITED_RATIO), options.work)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="directory for models and results")
    parser.add_argument("--preset", default="120m", help="see benchmarks.models")
    parser.add_argument("part", nargs="?", choices=["blocks", "transport"], default="blocks", help="what to measure")
    parser.add_argument("--mib", type=int, default=1024, help="transport: size of the checkpoint")
    parser.add_argument("--line-mib", type=int, default=512, help="transport: size of the one over the long line")
    parser.add_argument("--repeats", type=int, default=3, help="transport: transfers of each kind")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
