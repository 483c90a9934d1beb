"""The image, the composition and what they install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mergenode import __version__
from mergenode.settings import load_settings
from tests.support.manifests import ROOT

DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text(encoding="utf-8"))
NODES = {name: each for name, each in COMPOSE["services"].items() if name.startswith("node-")}


def pins(name: str) -> dict[str, str]:
    """Exact versions by name. Anything else in the file fails."""
    lines = (ROOT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    found = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(package): version for package, version in found.items()}


def test_the_image_installs_what_was_tested() -> None:
    run, dev = pins("run.txt"), pins("dev.txt")
    assert {name: version for name, version in run.items() if name in dev and dev[name] != version} == {}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in project["dependencies"]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(run[canonicalize_name(wanted.name)]), text


def test_the_image_runs_unprivileged_and_leaves_judging_to_probes() -> None:
    lines = DOCKERFILE.splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
    assert not re.search(r"^HEALTHCHECK", DOCKERFILE, re.M)
    assert ":latest" not in DOCKERFILE
    assert [line for line in lines if line.startswith("FROM ")] == ["FROM ${BASE} AS build", "FROM ${BASE}"]
    assert 'ENTRYPOINT ["mergenode"]' in lines, "process 1 is the node: signals reach it"


def test_the_accelerator_chooses_the_index_of_torch_and_of_nothing_else() -> None:
    """What the arguments of the build do to the two lines of pip; ``make image-check`` builds with both."""
    arguments = dict(re.findall(r"^ARG (\w+)=(.*)$", DOCKERFILE, re.M))
    assert (arguments["ACCELERATOR"], arguments["VERSION"]) == ("cpu", __version__)
    torch, rest = re.findall(r"pip install ((?:--no-deps --index-url|-r) .*?)(?: \\)?$", DOCKERFILE, re.M)
    chosen = torch.replace("${TORCH_INDEX}", arguments["TORCH_INDEX"])
    assert chosen.replace("${ACCELERATOR}", "cu130").split()[2] == '"https://download.pytorch.org/whl/cu130"'
    assert DOCKERFILE.count("${ACCELERATOR}") == 1
    assert "--no-deps" not in rest and rest == "-r requirements/run.txt", "what torch needs: CUDA's libraries"


def test_the_build_sends_only_what_it_copies() -> None:
    ignore = (ROOT / "deploy/Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copied = [line.split()[1:-1] for line in DOCKERFILE.splitlines() if re.match(r"COPY [^-]", line)]
    assert {source for sources in copied for source in sources} == kept
    assert all((ROOT / name).exists() for name in kept)


@pytest.mark.parametrize("name", NODES)
def test_nodes_of_the_composition_have_valid_settings(name: str, tmp_path: Path) -> None:
    node = NODES[name]
    assert {"./compose:/etc/mergenode:ro"} <= set(node["volumes"])
    path = tmp_path / "node.yaml"
    path.write_text((ROOT / "deploy/compose/node.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    settings = load_settings(path, node["environment"])
    assert settings.peers.advertise == f"{name}:50051"
    assert {each.partition(":")[0] for each in settings.peers.neighbours} == set(NODES)
    assert int(node["stop_grace_period"].removesuffix("s")) >= settings.shutdown.drain_seconds + 20
    assert settings.http.address is not None
    assert node["ports"][0].endswith(f":{settings.http.address[1]}")


def test_everything_in_the_composition_is_locked_down_and_versioned() -> None:
    for name, service in COMPOSE["services"].items():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert re.search(r":v?\d+\.\d+\.\d+\}?$", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service["ports"]), name


def test_prometheus_of_the_composition_scrapes_every_node() -> None:
    scrape = yaml.safe_load((ROOT / "deploy/compose/prometheus.yml").read_text(encoding="utf-8"))
    (job,) = scrape["scrape_configs"]
    assert {each.partition(":")[0] for each in job["static_configs"][0]["targets"]} == set(NODES)
    mounts = [each.split(":")[0] for each in COMPOSE["services"]["prometheus"]["volumes"] if each.startswith("./")]
    assert all((ROOT / "deploy" / each).exists() for each in mounts)
