"""What this process runs on: the facts that a report of a wrong result or a slow run needs."""

from __future__ import annotations

import os
import platform
import re
from importlib import metadata


def surroundings() -> dict[str, str]:
    """Names and values in a fixed order. Imports torch, which takes a second."""
    import torch

    facts = {
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "platform": platform.platform(),
        "processor": _processor(),
        "processors usable": str(len(os.sched_getaffinity(0))),
        "torch": str(torch.__version__),
        "torch threads": str(torch.get_num_threads()),
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "blas": _blas(torch.__config__.show()),
        "cuda": str(torch.version.cuda) if torch.cuda.is_available() else "not available",
    }
    facts |= {f"package {name}": version for name, version in _packages().items()}
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux: the machine type has to do
    return platform.machine()


def _blas(configuration: str) -> str:
    """The linear algebra library and its instruction set from torch's build report."""
    library = re.search(r"BLAS_INFO=([^,\s]+)", configuration)
    lapack = re.search(r"LAPACK_INFO=([^,\s]+)", configuration)
    detail = re.search(r"Intel\(R\) oneAPI Math Kernel Library Version ([^\s]+)", configuration)
    parts = [library[1] if library else "unknown"]
    if detail:
        parts.append(detail[1])
    if lapack:
        parts.append(f"lapack {lapack[1]}")
    return ", ".join(parts)


def _packages() -> dict[str, str]:
    """Installed versions of what mergenode requires at run time; names as in the metadata."""
    try:
        required = metadata.requires("mergenode") or []
    except metadata.PackageNotFoundError:  # run from a source tree
        required = []
    names = [
        re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
        for requirement in required
        if "extra ==" not in requirement
    ]
    found: dict[str, str] = {}
    for name in names or (
        "torch",
        "numpy",
        "scipy",
        "safetensors",
        "pydantic",
        "click",
        "blake3",
        "watchdog",
    ):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "missing"
    return found
