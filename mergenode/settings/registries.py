"""The settings of one registry."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pydantic import GetJsonSchemaHandler, ValidationInfo, field_validator, model_validator

from mergenode.settings.quantities import PLAIN_NAME, resolve_path
from mergenode.settings.section import REQUIRED, Section, setting

SCHEMES = ("", "file")
"""URL schemes of the registries that this version can watch; a plain path has none."""


class RegistrySettings(Section):
    """One place where checkpoints appear. A text instead of a section is its url."""

    url: str = setting(
        REQUIRED,
        "Where checkpoints appear: a path or a file:// URL.",
        unit="URL or path",
        why="only you know it",
    )
    name: str = setting(
        "",
        "Name of the registry in facts and metric labels.",
        unit="name of letters, digits, '.', '_' and '-', at most 63; empty for the last part of the url",
        why="the directory's own name is what people call it",
    )
    settle_seconds: float = setting(
        30.0,
        "How long an entry without a commit marker must stay unchanged before it counts as complete.",
        unit="seconds",
        why="network copies pause for seconds, rarely for half a minute",
        ge=0,
        le=86_400,
    )
    settle_polls: int = setting(
        3,
        "How many listings in a row must find an entry without a commit marker unchanged.",
        unit="listings",
        why="two equal listings can fall into one pause of a copy",
        ge=1,
        le=1000,
    )
    poll_seconds: float = setting(
        10.0,
        "How often the registry is listed when nothing pokes the node earlier.",
        unit="seconds",
        why="three listings then fit into settle_seconds and a listing costs milliseconds",
        ge=0.05,
        le=86_400,
    )

    @model_validator(mode="before")
    @classmethod
    def _text_is_url(cls, value: object) -> object:
        return {"url": value} if isinstance(value, str) else value

    @field_validator("url")
    @classmethod
    def _known_scheme(cls, value: str, info: ValidationInfo) -> str:
        scheme, rest = ("", value) if "://" not in value else value.split("://", 1)
        if scheme not in SCHEMES:
            raise ValueError(f"a path or a file:// URL (scheme {scheme!r} is not known)")
        if scheme == "":
            return str(resolve_path(value, info))
        parts = urlsplit(value)
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/") or not rest:
            raise ValueError("a file URL with an absolute path: file:///srv/inbox")
        return value

    @model_validator(mode="after")
    def _named_after_url(self) -> Self:
        if not self.name:
            last = re.sub(r"[^A-Za-z0-9._-]+", "-", self.path.name).strip("-._")[:63]
            object.__setattr__(self, "name", last or "registry")
        elif not re.match(PLAIN_NAME, self.name):
            raise ValueError("a name of letters, digits, '.', '_' and '-', at most 63, as 'name'")
        return self

    @property
    def path(self) -> Path:
        """The directory behind the url."""
        return Path(unquote(urlsplit(self.url).path)) if "://" in self.url else Path(self.url)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        section = handler.resolve_ref_schema(handler(core_schema))
        return {
            "anyOf": [{"type": "string", "description": "The url alone."}, dict(section)],
            "title": "RegistrySettings",
        }
