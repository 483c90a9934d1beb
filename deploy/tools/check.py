"""What the tools of others say of deploy/: ``make deploy-check``, which installs them first.

Helm 3 and 4 lint and render the chart with its defaults and every file in its ci/; every manifest is held against the
schemas of several Kubernetes versions; checkov and hadolint look for bad habits; the schema of the values is a schema.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from deploy.tools.binaries import ROOT, binary
from deploy.tools.manifests import BASE, CHART, VALUES

TOOLS = ROOT / ".venv/deploy-check/bin"
CHECKOV = ROOT / ".venv/deploy-check/checkov/bin/checkov"
KUBERNETES = ("1.27", "1.32", "1.37")
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
for manifest in yaml.safe_load_all(open(sys.argv[1], encoding="utf-8")):
    if manifest and manifest["kind"] in kinds:
        kinds[manifest["kind"]].model_validate(manifest)
"""


class Checks:
    """Runs commands, counts them, and remembers what failed."""

    def __init__(self) -> None:
        self.done = 0
        self.failed: list[str] = []

    def run(self, what: str, command: Sequence[str | Path], output: Path | None = None) -> None:
        """One command, whose exit code decides; its output is shown when it fails, or goes to a file."""
        result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)  # noqa: S603
        self.done += 1
        if output is not None:
            output.write_text(result.stdout, encoding="utf-8")
        if result.returncode:
            self.failed.append(what)
            print(f"--- {what}\n{result.stdout}{result.stderr}")
        else:
            print(f"ok  {what}")


def check(scratch: Path) -> Checks:
    checks = Checks()
    manifests = _render(checks, scratch)
    for path in manifests:
        for version in KUBERNETES:
            command = [TOOLS / "kubernetes-validate", "--strict", "--quiet", "-k", version, path]
            checks.run(f"kubernetes-validate {version} {path.stem}", command)
        checks.run(f"prometheus operator {path.stem}", [TOOLS / "python", "-c", OPERATOR, path])
    skipped = ",".join(SKIPPED)
    common = ["--compact", "--quiet", "--skip-download", "--skip-check", skipped]
    chosen = [each for path in manifests if "helm3" not in path.stem for each in ("-f", path)]
    checks.run("checkov manifests", [CHECKOV, "--framework", "kubernetes", *common, *chosen])
    checks.run("checkov image", [CHECKOV, "--framework", "dockerfile", *common, "-f", "deploy/Dockerfile"])
    checks.run("hadolint", [TOOLS / "hadolint", "deploy/Dockerfile"])
    schema = CHART / "values.schema.json"
    checks.run("schema of the values", [TOOLS / "check-jsonschema", "--check-metaschema", schema])
    given = [CHART / "values.yaml", *VALUES]
    checks.run("values and their schema", [TOOLS / "check-jsonschema", "--schemafile", schema, *given])
    return checks


def _render(checks: Checks, scratch: Path) -> list[Path]:
    """Every form of the manifests, as files."""
    result = []
    for name in ("helm3", "helm4"):
        helm = binary(name)
        if helm is None:
            raise SystemExit(f"no {name}: `make deploy-tools` fetches it")
        for values in (None, *VALUES):
            stem = f"{name} {values.stem if values else 'defaults'}"
            options = ["-f", values] if values else []
            checks.run(f"lint {stem}", [helm, "lint", "--strict", CHART, *options])
            result.append(scratch / f"{stem.replace(' ', '-')}.yaml")
            checks.run(f"template {stem}", [helm, "template", "m", CHART, "-n", "models", *options], result[-1])
    kubectl = binary("kubectl-1.37")
    if kubectl is None:
        raise SystemExit("no kubectl: `make deploy-tools` fetches it")
    result.append(scratch / "kustomize.yaml")
    checks.run("kustomize", [kubectl, "kustomize", BASE], result[-1])
    return result


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        found = check(Path(folder))
    print(f"{found.done} checks, {len(found.failed)} failed")
    sys.exit(1 if found.failed else 0)
