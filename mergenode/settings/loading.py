"""From a file to settings, and the schema for editors."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mergenode.settings.complaints import complain
from mergenode.settings.document import Document, parse_document, read_document
from mergenode.settings.tree import Settings


def load_settings(path: str | Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read, expand and validate a settings file; relative paths count from its directory.

    Args:
        path: A YAML file, UTF-8, at most 1 MiB.
        environment: Variables for ``${VAR}``; the process's own when None.

    Returns:
        Frozen settings with absolute paths and sizes in bytes. Nothing but the file itself was touched.

    Raises:
        UsageError: the file cannot be read, is not YAML, or holds unknown, missing or wrong settings;
            one line per problem with file, line, setting, value and what is allowed.
    """
    path = Path(path)
    document = read_document(path, os.environ if environment is None else environment)
    return _validated(document, path.absolute().parent)


def parse_settings(text: str, *, directory: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Settings from YAML text; relative paths count from ``directory``. Raises as ``load_settings``."""
    return _validated(parse_document("settings", text, environment or {}), directory)


def settings_schema() -> dict[str, Any]:
    """JSON Schema of the settings file (draft 2020-12), for editors and charts."""
    schema = Settings.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "mergenode settings"
    return schema


def _validated(document: Document, directory: Path) -> Settings:
    try:
        return Settings.model_validate(document.data, context={"directory": directory})
    except ValidationError as error:
        raise complain(document, error.errors(include_url=False, include_input=False)) from None
