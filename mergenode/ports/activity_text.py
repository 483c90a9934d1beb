"""Long work in words, the same on the page and on the command line. Takes documents: the node may be elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mergenode.ports.activity import share_of
from mergenode.sizes import bytes_text, left_text, seconds_text

_SILENT_SECONDS = 60.0


def title(activity: Mapping[str, Any]) -> str:
    """What is done, of what: ``fold of team-1``. Names are as they came; whoever shows them makes them safe."""
    source = f" (from {activity['peer']})" if activity["peer"] and activity["peer"] not in activity["subject"] else ""
    return f"{activity['kind']} of {activity['subject']}{source}"


def measures(activity: Mapping[str, Any]) -> list[str]:
    """How far, how fast, how long still, as far as it is known."""
    share = share_of(activity)
    found = [] if share is None else [f"{100 * share:.0f} %"]
    found += [amount for amount in (amount_text(activity), steps_text(activity)) if amount]
    found += [rate_text(activity)] if activity["rate"] is not None else []
    left = left_text(activity["remaining_seconds"])
    if left:
        found.append(left)
    elif activity["elapsed_seconds"] > 0:
        found.append(f"{seconds_text(activity['elapsed_seconds'])} so far")
    elif activity["started"]:
        found.append(f"begun {activity['started']}")
    if activity["silent_seconds"] > _SILENT_SECONDS:
        found.append(f"nothing new for {seconds_text(activity['silent_seconds'])}")
    if activity["waits_for"]:
        found.append(f"waits for {activity['waits_for']}")
    return found


def sentence(activity: Mapping[str, Any]) -> str:
    """All of it in one line."""
    return f"{title(activity)}: {', '.join(measures(activity))}"


def amount_text(activity: Mapping[str, Any]) -> str:
    """Bytes done, and of how many; empty where bytes do not measure it."""
    done, total = activity["bytes_done"], activity["bytes_total"]
    if total > 0:
        return f"{bytes_text(done)} of {bytes_text(total)}"
    return bytes_text(done) if done > 0 else ""


def steps_text(activity: Mapping[str, Any]) -> str:
    """Steps done, and of how many; empty where there are none."""
    done, total, step = activity["steps_done"], activity["steps_total"], activity["step"]
    if total > 0:
        return f"{done} of {total} {step}"
    return f"{done} {step}" if done > 0 else ""


def rate_text(activity: Mapping[str, Any]) -> str:
    """How fast; empty for what is not known."""
    rate, unit = activity["rate"], activity["unit"]
    if rate is None:
        return ""
    return f"{bytes_text(rate)}/s" if unit == "bytes" else f"{rate:.2g} {unit}/s"
