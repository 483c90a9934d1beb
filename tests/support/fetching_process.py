"""A receiver in a process of its own: ``python -m tests.support.fetching_process FOLDER ROOT ADDRESS...``.

Prints one JSON object per line: ``{"done": bytes, "total": bytes}`` after every verified block, then how it ended,
with its peak memory in MiB and what it counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from mergenode.adapters.peers.weights.fetching import Fetcher, FetchSettings, Order
from mergenode.adapters.peers.weights.shelf import Shelf, ShelfLimits
from mergenode.adapters.peers.weights.sources import Patience, Source
from mergenode.adapters.peers.weights.transfer_observer import TransferProgress
from mergenode.errors import MergenodeError
from mergenode.wire.blocks import Root
from tests.support.peer_servers import insecure_channel
from tests.support.transfer_notes import TransferNotes


class Telling(TransferNotes):
    def progress(self, progress: TransferProgress) -> None:
        print(json.dumps({"done": progress.done, "total": progress.total}), flush=True)


def main() -> None:
    folder, root, *addresses = sys.argv[1:]
    notes = Telling()
    shelf = Shelf(Path(folder), time.monotonic, ShelfLimits(min_free=0), notes)
    patience = Patience(idle_seconds=2.0, first_pause=0.02, longest_pause=0.2)
    fetcher = Fetcher(shelf, insecure_channel, notes, settings=FetchSettings(patience=patience))
    sources = [Source(address, address) for address in addresses]
    begun, how, message = peak_mib(), "no", ""
    try:
        how = "whole" if fetcher.fetch(Order(Root(bytes.fromhex(root)), lambda: sources)) else "unwanted"
    except MergenodeError as error:
        how, message = type(error).__name__, f"{getattr(error, 'reason', '')}: {error.message}"
    counts = {**notes.counts, "resumed": notes.resumes[0][0] if notes.resumes else 0}
    print(
        json.dumps({"how": how, "message": message, "begun": begun, "peak": peak_mib(), "counts": counts}), flush=True
    )


def peak_mib() -> float:
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main()
