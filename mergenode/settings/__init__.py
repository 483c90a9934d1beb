"""One YAML file becomes one frozen tree of settings; every field has a unit, a default and a reason."""

from mergenode.settings.loading import load_settings, parse_settings, settings_schema
from mergenode.settings.methods import METHOD_SECTIONS, method_options
from mergenode.settings.publishing import PublishSettings
from mergenode.settings.registries import SCHEMES, RegistrySettings
from mergenode.settings.sections import (
    EngineSettings,
    HttpSettings,
    LogSettings,
    NodeSettings,
    ShutdownSettings,
    ValidationSettings,
)
from mergenode.settings.task import TaskSettings
from mergenode.settings.tree import Settings
from mergenode.sizes import parse_size

__all__ = [
    "METHOD_SECTIONS",
    "SCHEMES",
    "EngineSettings",
    "HttpSettings",
    "LogSettings",
    "NodeSettings",
    "PublishSettings",
    "RegistrySettings",
    "Settings",
    "ShutdownSettings",
    "TaskSettings",
    "ValidationSettings",
    "load_settings",
    "method_options",
    "parse_settings",
    "parse_size",
    "settings_schema",
]
