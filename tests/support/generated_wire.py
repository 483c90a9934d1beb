"""The Python code of ``proto/mergenode/v1``; ``python -m tests.support.generated_wire`` writes it.

The compiler derives module names from the path of a file below ``proto``; in the package the modules lie one level
deeper, so the names are put right afterwards. The descriptors inside stay as they are: other languages see
``mergenode/v1``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[2]
PROTO = ROOT / "proto"
PACKAGE = ROOT / "mergenode/wire/v1"


def generate() -> dict[str, str]:
    """Text by file name: ``*_pb2.py``, ``*_pb2.pyi``, and ``*_pb2_grpc.py`` where there are services.

    Raises:
        ModuleNotFoundError: grpcio-tools is not installed.
        CalledProcessError: the compiler refuses a file; its message is on stderr.
    """
    import grpc_tools  # noqa: F401 - says early that it is missing

    sources = sorted(path.relative_to(PROTO).as_posix() for path in PROTO.rglob("*.proto"))
    with TemporaryDirectory() as name:
        options = [f"--{kind}_out={name}" for kind in ("python", "pyi", "grpc_python")]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *options, *sources]
        subprocess.run(command, check=True)
        made = {path.name: _moved(path.read_text()) for path in sorted(Path(name, "mergenode/v1").iterdir())}
    return {file: text for file, text in made.items() if not file.endswith("_grpc.py") or "Servicer" in text}


def _moved(text: str) -> str:
    text = text.replace("from mergenode.v1 import", "from mergenode.wire.v1 import")
    return re.sub(r"(BuildTopDescriptorsAndMessages\(DESCRIPTOR, ')mergenode\.v1", r"\1mergenode.wire.v1", text)


def main() -> None:
    """Write what ``generate`` makes."""
    for name, text in generate().items():
        (PACKAGE / name).write_text(text)


if __name__ == "__main__":
    main()
