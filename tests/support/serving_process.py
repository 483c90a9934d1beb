"""A node that serves its shelf, in a process of its own: ``python -m tests.support.serving_process FOLDER PORT``.

Prints its port when it listens (0 asks for a free one) and serves until it is killed or standard input ends.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mergenode.adapters.peers.weights.blob_service import BlobService
from mergenode.adapters.peers.weights.shelf import Shelf
from tests.support.peer_servers import ThreadedServer


def main() -> None:
    folder, port = sys.argv[1:]
    server = ThreadedServer(BlobService(Shelf(Path(folder), time.monotonic)), address=f"127.0.0.1:{port}")
    print(server.port, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
