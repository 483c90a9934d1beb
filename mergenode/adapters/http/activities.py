"""The section of the status page about long work: a bar and a line for everything that is under way."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from mergenode.adapters.observers.safe_text import redact, visible
from mergenode.ports.activity import Activity
from mergenode.ports.activity_text import measures, title


def activities_section(activities: Sequence[Activity]) -> str:
    """A paragraph for each, or nothing. Needs no script and no style; names in it are never taken as markup."""
    return "".join(map(_paragraph, activities))


def _paragraph(activity: Activity) -> str:
    document, share = activity.document(), activity.share
    name = _text(title(document))
    value = "" if share is None else f' value="{share:.4f}"'
    bar = f'<progress max="1"{value} aria-label="{name}"></progress>'
    return f"<p>{name} {bar} {_text(', '.join(measures(document)))}</p>"


def _text(value: str) -> str:
    """The only way of a value into the section."""
    return escape(visible(redact(value)), quote=True)
