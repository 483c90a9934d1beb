"""What a running node takes over of other settings, and what waits for a restart."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from mergenode.errors import UsageError
from mergenode.settings import Settings, parse_settings
from mergenode.settings.names import setting_names
from mergenode.settings.reloading import RELOADED, is_reloaded, reloaded
from tests.support.manifests import ROOT

MINIMAL = {"base": "./base", "registries": [{"url": "./inbox"}, {"url": "./other"}]}
TASK = {"entrypoint": "package.module:Task"}


def parsed(**sections: object) -> Settings:
    return parse_settings(yaml.safe_dump(MINIMAL | sections), directory=Path("/etc/node"))


def registries(*, url: str = "./inbox", **fields: object) -> list[dict[str, object]]:
    return [{"url": url, **fields}, {"url": "./other"}]


def names(section: str) -> Iterator[str]:
    yield from (name for name in setting_names() if name == section or name.startswith((f"{section}.", f"{section}[")))


def test_every_entry_of_the_table_is_a_setting_or_a_section() -> None:
    for entry in RELOADED:
        assert list(names(entry)), entry
        assert all(is_reloaded(name) for name in names(entry))
    assert not any(
        is_reloaded(name) for name in ("publish.keeper", "logs", "http.listen", "publish", "registries[].url")
    )


def test_nothing_differs() -> None:
    change = reloaded(parsed(), parsed())
    assert (change.settings, change.applied, change.waiting) == (parsed(), (), ())


def test_what_may_change_changes_and_the_rest_stays_and_is_named() -> None:
    running = parsed()
    wanted = parsed(
        registries=registries(poll_seconds=3, settle_polls=9),
        publish={"keep": 2, "every": {"contributions": 4}, "dtype": "float32"},
        gates={"norm": {"max_ratio": 2.5, "action": "observe"}},
        validation={"max_relative_norm": 0.5, "max_tensors": 7},
        log={"level": "debug"},
        http={"listen": None},
        method={"name": "iso"},
    )
    change = reloaded(running, wanted)
    assert set(change.applied) == {
        "registries[].poll_seconds", "publish.keep", "publish.every.contributions", "gates.norm.max_ratio",
        "gates.norm.action", "validation.max_relative_norm", "log.level",
    }  # fmt: skip
    assert set(change.waiting) == {
        "registries[].settle_polls", "publish.dtype", "validation.max_tensors", "http.listen", "method",
    }  # fmt: skip
    now = change.settings
    assert (now.gates, now.log) == (wanted.gates, wanted.log)
    assert (now.publish.keep, now.publish.every) == (2, wanted.publish.every)
    assert now.registries[0].poll_seconds == 3 and now.registries[0].settle_polls == 3
    assert now.publish.dtype == running.publish.dtype and now.http == running.http and now.method == running.method
    again = reloaded(now, wanted)
    assert again.applied == () and again.waiting == change.waiting


@pytest.mark.parametrize(
    "other",
    [
        [{"url": "./inbox"}],
        [{"url": "./other"}, {"url": "./inbox"}],
        [{"url": "./inbox", "name": "x"}, {"url": "./other"}],
    ],
)
def test_other_registries_take_a_restart(other: list[dict[str, object]]) -> None:
    change = reloaded(parsed(), parsed(registries=other))
    assert change.waiting == ("registries",) and change.settings == parsed()


def test_a_registry_that_moved_takes_a_restart() -> None:
    change = reloaded(parsed(), parsed(registries=registries(url="/elsewhere/inbox", poll_seconds=2)))
    assert change.waiting == ("registries[].url",) and change.applied == ("registries[].poll_seconds",)


def test_what_only_fits_after_a_restart_is_refused_whole() -> None:
    """The gate is right with the plug-in that the file names, and wrong without: the running node has none."""
    wanted = parsed(gates={"evaluation": {"action": "reject"}}, task=TASK, log={"level": "error"})
    with pytest.raises(UsageError) as refused:
        reloaded(parsed(), wanted)
    assert "task.entrypoint" in refused.value.message and "nothing is taken over" in refused.value.message


def test_the_guide_has_the_table() -> None:
    text = (ROOT / "docs/operate.md").read_text(encoding="utf-8")
    section = text[text.index("## Changing settings while it runs") :]
    rows = re.findall(r"^\| `([^`]+)` \| (.+) \|$", section[: section.index("\n## ")], re.M)
    assert rows == list(RELOADED.items())
