"""An intake in a process of its own, to be killed: ``python -m tests.support.intake_process STATE BASE PORT``.

It says its port once it serves, and a line for every block that it took.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from mergenode.adapters.peers.intake.upload_blocks import UploadBlocks
from tests.support.intake import Intake, open_uploads


def main(state: str, base: str, port: str) -> None:
    real = UploadBlocks.put

    def put(self: UploadBlocks, *args: Any) -> Any:
        verdict = real(self, *args)
        print("block", flush=True)
        return verdict

    UploadBlocks.put = put  # type: ignore[method-assign]  # the test waits for this line
    with Intake(open_uploads(Path(state), Path(base)), port=int(port)) as intake:
        print(f"serving {intake.port}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
