"""A process that is gone, hangs or starts again and again; a disk that is full, or soon will be."""

from __future__ import annotations

from collections.abc import Iterator

from tests.deploy.observability.mounts import fill, silent_share, volume
from tests.deploy.observability.scenario import Fault, provokes
from tests.deploy.observability.stage import Stage


@provokes("MergenodeDown", "a node is killed")
def down(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    node.kill()
    yield Fault(node, told=(node.instance,))
    node.start()


@provokes("MergenodeAbsent", "the targets are gone from the configuration of Prometheus", alone=True)
def absent(stage: Stage) -> Iterator[Fault]:
    instances = stage.instances
    stage.watcher.forget(*instances)
    yield Fault(stage.nodes[0])
    stage.watcher.watch(*instances)


@provokes(
    "MergenodeRestarting",
    "a node is killed again and again, and starts again each time",
    beside={"MergenodeDown": "a start may take as long as five minutes are here, and nobody answers meanwhile"},
)
def restarting(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    for _ in range(12):
        before = stage.watcher.query(f'process_start_time_seconds{{instance="{node.instance}"}}')
        node.kill()
        node.start()
        started = float(before[0]["value"][1]) if before else 0.0
        node.sees(f'process_start_time_seconds{{instance="{node.instance}"}} > {started}')
        if "MergenodeRestarting" in stage.watcher.firing(node.instance):
            break
    yield Fault(node, told=(node.instance,))


@provokes("MergenodeLoopStalled", "the share that holds the registry does not answer", root=True)
def loop_stalled(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    with silent_share(node.real.inbox):
        yield Fault(node)


@provokes("MergenodeDiskFull", "the volume of the published versions is full", root=True)
def disk_full(stage: Stage) -> Iterator[Fault]:
    node = stage.node(start=False)
    stage.stack.enter_context(volume(node.real.published, 1 << 20))
    node.start()
    node.honest(1)
    filler = fill(node.real.published, 0)
    node.put("one-more", node.tuned(2))
    yield Fault(node)
    filler.unlink()
    node.until("is visible at")


@provokes("MergenodeDiskFilling", "less than twice the statistics is free on the volume of the state", root=True)
def disk_filling(stage: Stage) -> Iterator[Fault]:
    node = stage.node(start=False)
    stage.stack.enter_context(volume(node.real.state, 4 << 20))
    node.start()
    node.honest(1)
    filler = fill(node.real.state, 40_000)
    yield Fault(node)
    filler.unlink()


@provokes("MergenodeSettingsWrong", "a key of the settings file of a running node is misspelt")
def settings_wrong(stage: Stage) -> Iterator[Fault]:
    node = stage.node()
    node.honest(1)
    right = node.real.config.read_text()
    node.configure(publsh={"keep": 3})
    yield Fault(node, codes={"config check": {2}})
    node.real.config.write_text(right)
