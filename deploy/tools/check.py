"""What the tools of others say of deploy/: ``make deploy-check``, which installs them first.

Helm 3 and 4 lint and render the chart with its defaults and every file in its ci/; every manifest is held against the
schemas of several Kubernetes versions; checkov and hadolint look for bad habits; the schema of the values is a schema.
What is rendered is shared: tools start once and get all files, and what both Helms make alike is judged once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

from deploy.tools.binaries import ROOT, binary
from deploy.tools.environments import program
from deploy.tools.manifests import BASE, CHART, VALUES

KUBERNETES = ("1.27", "1.32", "1.37")
PATIENCE_SECONDS = 240.0
SKIPPED = {
    "CKV_K8S_8": "the pod of `helm test` ends by itself: no liveness probe",
    "CKV_K8S_9": "nor a readiness probe",
    "CKV_K8S_11": "no limit for CPU: throttling turns into failed probes",
    "CKV_K8S_15": "tags are versions and never move: no need to pull always",
    "CKV_K8S_21": "the namespace is chosen at the installation",
    "CKV_K8S_43": "image.digest is there for those who pin by digest",
    "CKV2_K8S_6": "the pod of `helm test` calls one Service and ends; values may leave the policy to others",
    "CKV_DOCKER_2": "no HEALTHCHECK: Kubernetes has probes",
    "CKV_DOCKER_7": "the base is an argument, with a version in its default",
}
OPERATOR = """
import sys, yaml
from cloudcoil.models.prometheus_operator.v1 import PodMonitor, PrometheusRule, ServiceMonitor
kinds = {each.__name__: each for each in (PodMonitor, PrometheusRule, ServiceMonitor)}
judged = 0
for path in sys.argv[1:]:
    for manifest in yaml.safe_load_all(open(path, encoding="utf-8")):
        if manifest and manifest["kind"] in kinds:
            try:
                kinds[manifest["kind"]].model_validate(manifest)
            except ValueError as error:
                sys.exit(f"{path}: {error}")
            judged += 1
sys.exit(None if judged else "nothing of the operator in any manifest")
"""


@dataclass(frozen=True)
class Check:
    """A command whose exit code decides. ``output``: where what it prints goes when it is fine."""

    what: str
    command: Sequence[str | Path]
    output: Path | None = None


class Checks:
    """Runs commands, two at a time, counts them, and remembers what failed."""

    def __init__(self) -> None:
        self.done = 0
        self.failed: list[str] = []

    def run(self, checks: Sequence[Check]) -> None:
        """All of them, to their end; of one that fails the output is shown."""
        with ThreadPoolExecutor(2) as threads:
            for check, (code, told) in zip(checks, threads.map(_run, checks), strict=True):
                self.done += 1
                if code:
                    self.failed.append(check.what)
                print(f"--- {check.what}: exit code {code}\n{told}" if code else f"ok  {check.what}", flush=True)


def _run(check: Check) -> tuple[int, str]:
    """Exit code, -1 where it was ended, and all that was printed."""
    # Compiled modules are kept here whatever CI wants for its own: each tool is started several times.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    try:
        result = subprocess.run(  # noqa: S603
            check.command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment,
            timeout=PATIENCE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return -1, f"not done after {PATIENCE_SECONDS:.0f} s\n"
    if check.output is not None:
        check.output.write_text(result.stdout, encoding="utf-8")
    return result.returncode, result.stdout + result.stderr


def check(scratch: Path) -> Checks:
    checks = Checks()
    rendered = _renderings(scratch)
    checks.run(rendered)
    if checks.failed:
        return checks
    checks.run(_judgements(_distinct([each.output for each in rendered if each.output])))
    return checks


def _renderings(scratch: Path) -> list[Check]:
    """Every form of the manifests, as files."""
    found = {name: binary(name) for name in ("helm3", "helm4", "kubectl-1.37")}
    if lacking := [name for name, path in found.items() if path is None]:
        raise SystemExit(f"no {', '.join(lacking)}: `make deploy-tools` fetches them")
    result = []
    for name in ("helm3", "helm4"):
        helm = str(found[name])
        for values in (None, *VALUES):
            stem = f"{name} {values.stem if values else 'defaults'}"
            options = ["-f", values] if values else []
            output = scratch / f"{stem.replace(' ', '-')}.yaml"
            result.append(Check(f"lint {stem}", [helm, "lint", "--strict", CHART, *options]))
            result.append(Check(f"template {stem}", [helm, "template", "m", CHART, "-n", "models", *options], output))
    kubectl = str(found["kubectl-1.37"])
    return [*result, Check("kustomize", [kubectl, "kustomize", BASE], scratch / "kustomize.yaml")]


def _distinct(paths: Sequence[Path]) -> list[Path]:
    """One of those that hold the same manifests, in whatever order: what Helm 3 and 4 make is judged once."""
    kept: dict[tuple[str, ...], Path] = {}
    for path in paths:
        manifests = [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
        kept.setdefault(tuple(sorted(yaml.safe_dump(each) for each in manifests)), path)
    return list(kept.values())


def _judgements(manifests: Sequence[Path]) -> list[Check]:
    """The slowest first."""
    common = ["--compact", "--quiet", "--skip-download", "--skip-check", ",".join(SKIPPED)]
    chosen = [each for path in (*manifests, Path("deploy/Dockerfile")) for each in ("-f", path)]
    frameworks = ["--framework", "kubernetes", "dockerfile"]
    schema = CHART / "values.schema.json"
    validate, json_schema = program("tools", "kubernetes-validate"), program("tools", "check-jsonschema")
    return [
        Check("checkov", [program("checkov", "checkov"), *frameworks, *common, *chosen]),
        Check("prometheus operator", [program("tools", "python"), "-c", OPERATOR, *manifests]),
        *(
            Check(f"kubernetes-validate {version}", [validate, "--strict", "--quiet", "-k", version, *manifests])
            for version in KUBERNETES
        ),
        Check("hadolint", [program("tools", "hadolint"), "deploy/Dockerfile"]),
        Check("schema of the values", [json_schema, "--check-metaschema", schema]),
        Check("values and their schema", [json_schema, "--schemafile", schema, CHART / "values.yaml", *VALUES]),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder))
    print(f"{found.done} checks, {len(found.failed)} failed{''.join(f': {each}' for each in found.failed[:1])}")
    sys.exit(1 if found.failed else 0)
