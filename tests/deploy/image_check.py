"""The image is built and run: ``make image-check``, and no other target. Needs root and some packages of Debian.

A container engine and a registry are not needed: tests/deploy/image says what stands in for them, and
docs/kubernetes.md what that proves.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mergenode import __version__
from mergenode.adapters.registries.marker import write_marker
from tests.deploy.image.build import Builder, base, reason_against, wheels
from tests.deploy.image.container import Container, plan
from tests.deploy.image.index import Indexes, write_wheel
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.manifests import ROOT, plain

AGAINST = reason_against()
pytestmark = [
    pytest.mark.root,
    pytest.mark.timeout(3600),  # a build on a busy machine
    pytest.mark.skipif(AGAINST is not None, reason=AGAINST or ""),
]

NAME = "localhost/mergenode:check"
NODE = "node-a"
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
ENVIRONMENT = COMPOSE["services"][NODE]["environment"]
VOLUMES = {"/data/state": "2304m", "/data/published": "16m", "/tmp": "16m"}
"""The state must leave ``peers.intake.min_free`` (2 GiB) alone; no such size is ever used."""

HTTP, GRPC = "http://127.0.0.1:9464", "127.0.0.1:50051"


@dataclass(frozen=True)
class Built:
    """``taken``: index and project of every wheel that the build fetched."""

    config: dict[str, Any]
    root: Path
    base: Path
    taken: set[tuple[str, str]]
    torch: str


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    with Builder() as opened:
        yield opened


@pytest.fixture(scope="module")
def base_image(builder: Builder) -> str:
    return builder.load_base(base())


@pytest.fixture(scope="module")
def built(builder: Builder, base_image: str) -> Built:
    found = wheels()
    (torch,) = [path for path in found if path.name.startswith("torch-")]
    with Indexes({"whl/cpu": [torch], "simple": [path for path in found if path != torch]}) as indexes:
        arguments = {
            "BASE": base_image,
            "TORCH_INDEX": f"{indexes.url}/whl",
            "PIP_INDEX_URL": f"{indexes.url}/simple",
        }
        builder.build(NAME, ROOT, arguments)
    root = builder.files(NAME)
    return Built(builder.config(NAME), root, builder.files(base_image), indexes.taken, torch.name.split("-")[1])


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies outside: a base, an inbox, fine-tunes, readable for user 10001."""
    folder = tmp_path_factory.mktemp("given")
    tensors = base_tensors()
    write_single(folder / "base", tensors)
    (folder / "inbox").mkdir()
    for seed, name in enumerate(("pushed", "copied"), 1):
        write_single(folder / name, finetuned(tensors, seed=seed))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture
def node(built: Built, given: Path) -> Iterator[Container]:
    """The node of deploy/compose, alone."""
    binds = {"/etc/mergenode": ROOT / "deploy/compose", "/models/base": given / "base"}
    binds["/registries/inbox"] = given / "inbox"
    made = plan(built.config, built.root, volumes=VOLUMES, binds=binds, environment=ENVIRONMENT)
    with Container(made) as running:
        running.until("metrics, probes and status on")
        yield running


def sizes(root: Path) -> dict[str, int]:
    """Bytes of the files below every directory of the root that an image brings, and of some deeper ones."""
    found = dict.fromkeys(["", "opt/mergenode", "torch"], 0)
    for folder, _, names in os.walk(root):
        size = sum(os.lstat(os.path.join(folder, name)).st_size for name in names)
        found[""] += size
        found["opt/mergenode"] += size if "/opt/mergenode/" in f"{folder}/" else 0
        found["torch"] += size if "/site-packages/torch/" in f"{folder}/" else 0
    return found


def test_it_is_what_the_manifests_expect(built: Built, capsys: pytest.CaptureFixture[str]) -> None:
    container = plain().container
    expected = container["securityContext"]
    assert built.config["User"] == f"{expected['runAsUser']}:{expected['runAsGroup']}"
    assert [*built.config["Entrypoint"], *built.config["Cmd"]] == ["mergenode", *container["args"]]
    assert built.config["StopSignal"] == "SIGTERM"
    assert set(built.config["ExposedPorts"]) == {"9464/tcp", "50051/tcp"}
    assert built.config["Labels"]["org.opencontainers.image.version"] == __version__
    whole, below = sizes(built.root), sizes(built.base)[""]
    with capsys.disabled():
        print(
            f"\nimage {whole[''] / 1e6:.0f} MB = base {below / 1e6:.0f} + /opt/mergenode"
            f" {whole['opt/mergenode'] / 1e6:.0f} (of it torch {whole['torch'] / 1e6:.0f})"
            f" + {(whole[''] - below - whole['opt/mergenode']) / 1e6:.1f} MB"
        )


def test_torch_came_from_its_own_index_and_all_else_from_the_usual_one(built: Built) -> None:
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "requirements/run.txt").read_text(encoding="utf-8"), re.M)
    wanted = {("simple", name.lower().replace("_", "-")) for name in pinned if name != "torch"}
    assert built.taken == wanted | {("whl/cpu", "torch")}
    assert len(list(built.root.glob(f"opt/mergenode/lib/python3*/site-packages/torch-{built.torch}.dist-info"))) == 1


def test_the_argument_for_cuda_takes_its_torch_and_what_that_needs(
    builder: Builder, base_image: str, built: Built, tmp_path: Path
) -> None:
    """An empty wheel stands in for gigabytes: the choice is shown, not that CUDA computes."""
    version = built.torch.partition("+")[0]
    torch = write_wheel(tmp_path, "torch", f"{version}+cu130", "cuda-stand-in==13.0")
    library = write_wheel(tmp_path, "cuda_stand_in", "13.0")
    cpu, others = [], []
    for path in wheels():
        (cpu if path.name.startswith("torch-") else others).append(path)
    folders = {"whl/cpu": cpu, "whl/cu130": [torch], "simple": [*others, *cpu, library]}
    with Indexes(folders) as indexes:
        arguments = {
            "BASE": base_image,
            "ACCELERATOR": "cu130",
            "TORCH_INDEX": f"{indexes.url}/whl",
            "PIP_INDEX_URL": f"{indexes.url}/simple",
        }
        told = builder.build("localhost/mergenode:check-cu130", ROOT, arguments, "--target=build")
    assert {index for index, project in indexes.taken if project == "torch"} == {"whl/cu130"}
    assert ("simple", "cuda-stand-in") in indexes.taken
    installed = [line for line in told.splitlines() if "Successfully installed" in line]
    assert [line for line in installed if re.search(rf" torch-{re.escape(version)}\+cu130\b", line)] == installed[:1]
    assert " cuda-stand-in-13.0" in installed[1] and " torch-" not in installed[1]


def test_its_user_owns_nothing_but_the_places_of_volumes(built: Built) -> None:
    user = int(built.config["User"].partition(":")[0])
    writable = set()
    for folder, folders, names in os.walk(built.root):
        for path in (Path(folder, name) for name in (*folders, *names)):
            found = path.lstat()
            if found.st_uid == user or (found.st_mode & stat.S_IWOTH and not path.is_symlink()):
                writable.add(f"/{path.relative_to(built.root)}")
    outside = {path for path in writable if path.split("/")[1] not in ("dev", "proc", "run", "tmp")}
    assert outside <= {"/data", "/data/state", "/data/published", "/var/tmp", "/var/lock"}
    assert not (built.root / "src").exists(), "sources stay in the stage that builds"


def test_the_node_folds_publishes_answers_and_ends(node: Container, given: Path) -> None:
    status = node.status()
    assert status["NSpid"].split()[-1] == "1" and status["Uid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0 and status["NoNewPrivs"] == "1"
    node.until_true(lambda: node.get(f"{HTTP}/readyz")[0] == 200, "ready")
    refused = node.execute("touch", "/opt/mergenode/x", "/etc/x", "/data/x", "/models/base/x", "/registries/inbox/x")
    assert refused.stderr.count("Read-only file system") == 5, refused.stderr

    command = [sys.executable, "-m", "mergenode", "push", given / "pushed", "--to", GRPC, "--wait"]
    pushed = node.nearby(*command)
    assert pushed.returncode == 0 and "pushed: folded" in pushed.stdout, pushed.stdout + pushed.stderr
    node.until("version 1 is visible")
    write_marker(given / "copied")
    staged = shutil.copytree(given / "copied", given / "inbox/.copied")
    staged.rename(given / "inbox/copied")
    node.until("version 2 is visible")

    published = node.seen("/data/published/versions")
    manifest = json.loads((published / "v000002/mergenode.json").read_bytes())
    assert {each["name"].partition("@")[0] for each in manifest["contributions"]} == {"pushed", "copied"}
    code, metrics = node.get(f"{HTTP}/metrics")
    assert code == 200 and f'\nmergenode_build_info{{version="{__version__}"}} 1.0\n' in metrics
    assert "\nmergenode_version 2.0\n" in metrics
    shown = node.execute("mergenode", "status", "-c", "/etc/mergenode/node.yaml", "--json")
    assert shown.returncode == 0, shown.stderr
    told = json.loads(shown.stdout)
    assert (told["version"], told["running"], told["pid"]) == (2, True, 1)
    assert node.signal(signal.SIGTERM) == 0, "docs/operate.md: SIGTERM ends with code 0"


def test_helm_test_passes_in_the_image(node: Container, built: Built) -> None:
    """The pod of the chart's hook, beside the node instead of behind its Service."""
    rendered = (ROOT / "tests/golden/chart/peers.yaml").read_text(encoding="utf-8")
    (pod,) = [each for each in yaml.safe_load_all(rendered) if each and each["kind"] == "Pod"]
    (container,) = pod["spec"]["containers"]
    command = [*container["command"], *container["args"]]
    node.until_true(lambda: node.get(f"{HTTP}/readyz")[0] == 200, "ready")
    made = plan(built.config, built.root, volumes={}, binds={}, environment={"NODE": HTTP}, command=command)
    with Container(made, beside=node) as test:
        assert test.join() == 0, "".join(test.lines)
        assert f"{NODE} version" in "".join(test.lines)
