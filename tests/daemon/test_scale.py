"""The scale of a version: recorded with it, used again when it is made again, handed on to the next."""

from __future__ import annotations

import json

import pytest

from mergenode.ledger.records import Published
from mergenode.ports.engine import NOTHING_EARLIER, ScaleReport
from tests.support.fake_node import FakeNode
from tests.support.fake_ports import AS_IS, Crash

SEARCHED = ScaleReport(
    used=0.7, own=1.0, norm_rule=None, update_norm=2.0, mean_norm=3.0, evaluated=((1.0, 0.5), (0.7, 0.75))
)


def publish_once(node: FakeNode, name: str = "a") -> Published:
    node.put(name)
    node.drain(node.start())
    published = [fact for fact in node.facts() if isinstance(fact, Published)]
    return published[-1]


@pytest.mark.parametrize("scale", [AS_IS, SEARCHED])
def test_manifest_and_fact_tell_the_same(node: FakeNode, scale: ScaleReport) -> None:
    node.disk.scale = scale
    fact = publish_once(node)
    assert fact.scale == scale.entry() == json.loads(node.disk.versions[1])["scale"]
    assert ("evaluated" in fact.scale) is (scale is SEARCHED)


def test_a_version_knows_the_one_before_and_its_scale(node: FakeNode) -> None:
    node.disk.scale = SEARCHED
    publish_once(node, "a")
    publish_once(node, "b")
    first, second = node.disk.earlier
    assert first == NOTHING_EARLIER
    assert (second.previous, second.recorded, second.last_scale) == ("/published/v000001", None, 0.7)


def test_a_version_before_that_is_gone_shares_nothing(node: FakeNode) -> None:
    publish_once(node, "a")
    node.put("b")
    line = node.start()
    node.disk.versions.clear()
    node.drain(line)
    assert node.disk.earlier[-1].previous is None


def test_a_lost_version_is_made_again_at_its_recorded_scale(node: FakeNode) -> None:
    node.disk.scale = SEARCHED
    recorded = publish_once(node)
    del node.disk.versions[1]
    node.start()
    assert node.disk.earlier[-1].recorded == recorded.scale
    assert node.disk.earlier[-1].last_scale is None, "its own scale is not that of a version before"
    assert not [text for _, text in node.witness.messages if "does not come out" in text]


def test_a_version_that_a_kill_left_without_its_fact_keeps_its_scale(node: FakeNode) -> None:
    """It lies there whole: what its search found is in its manifest, and nobody searches again."""
    node.disk.scale = SEARCHED
    node.put("a")
    line = node.start()
    node.trouble.plan("latest", Crash())
    with pytest.raises(Crash):
        node.drain(line)
    node.start()
    published = [fact for fact in node.facts() if isinstance(fact, Published)]
    assert [fact.scale for fact in published] == [SEARCHED.entry()]
    assert len(node.disk.earlier) == 1
