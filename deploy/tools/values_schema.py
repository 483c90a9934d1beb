"""Writes values.schema.json of the chart: its own values, and the settings model for the value ``config``.

Usage: ``python -m deploy.tools.values_schema`` after a change of settings or of values.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mergenode.settings.loading import settings_schema

Schema = dict[str, Any]

TARGET = Path(__file__).parents[1] / "helm/mergenode/values.schema.json"
VARIABLE = r"\$\{"
"""The settings file replaces ``${NAME}`` by text, so any plain value may be one."""

OWNED = {
    "Settings": ("node", "base", "registries", "http"),
    "PublishSettings": ("path",),
    "PeersSettings": ("listen", "advertise", "neighbours", "insecure", "tls"),
    "TokenSettings": ("keys", "listen"),
}
"""Settings that follow from mounts and names of the chart, by section: its templates write them."""

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}
OBJECTS: Schema = {"type": "array", "items": ANY_OBJECT}
TEXTS: Schema = {"type": "array", "items": TEXT}
STRING_MAP: Schema = {"type": "object", "additionalProperties": TEXT}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
SIZE: Schema = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?([KMGTPE]i?)?$"}
SECONDS: Schema = {"type": "string", "pattern": r"^([0-9]+(ms|s|m|h))+$"}
COUNT: Schema = {"type": "integer", "minimum": 1}
SHORT_NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"}


def values_schema() -> Schema:
    """The whole schema, draft 7: the newest that every Helm 3 and 4 knows."""
    settings = settings_schema()
    definitions = {name: _section(name, each) for name, each in settings.pop("$defs").items()}
    registry = definitions.pop("RegistrySettings")["anyOf"][1]
    for own in ("url", "name"):
        registry["properties"].pop(own)
    registry.pop("required", None)
    config = _section("Settings", settings)
    config.pop("$schema", None)
    config.pop("required", None)
    _choose_method(config, definitions)
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the mergenode chart",
        **_closed(_chart_values(config, registry)),
        "definitions": definitions,
    }


def _section(name: str, section: Schema) -> Schema:
    """A section of the settings without what the chart owns, as the values file may write it."""
    schema: Schema = _writable(section)
    for key in OWNED.get(name, ()):
        del schema["properties"][key]
    return schema


def _writable(node: Any) -> Any:
    """Titles go, references point at ``definitions``, and every plain value may be a variable."""
    if isinstance(node, list):
        return [_writable(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return {"$ref": node["$ref"].replace("#/$defs/", "#/definitions/")}
    result = {key: _writable(value) for key, value in node.items() if key not in ("properties", "default")}
    if isinstance(result.get("title"), str):
        del result["title"]
    if "properties" in node:
        result["properties"] = {key: _writable(value) for key, value in node["properties"].items()}
    return _variable(_flat(result))


def _flat(node: Schema) -> Schema:
    """``anyOf`` over plain types becomes one schema: its complaints name what is wrong, not that nothing fits."""
    branches = node.get("anyOf", [])
    plain = {"integer", "number", "string", "null", "boolean"}
    if not branches or not all(_types(each) and set(_types(each)) <= plain for each in branches):
        return node
    merged: Schema = {key: value for key, value in node.items() if key != "anyOf"}
    patterns: list[str] = []
    names: list[str] = []
    for each in branches:
        names += [name for name in _types(each) if name not in names]
        if "string" in _types(each):
            patterns.append(each.get("pattern", ""))
        merged |= {key: value for key, value in each.items() if key not in ("type", "pattern")}
    merged["type"] = names
    if patterns and all(patterns):
        parts = dict.fromkeys(part for each in patterns for part in _alternatives(each))
        merged["pattern"] = "|".join(sorted(parts, key=lambda part: part == VARIABLE))
    return merged


def _variable(node: Schema) -> Schema:
    """A plain value may be written as a variable, too."""
    names = _types(node)
    if "const" in node:
        return {**_without(node, "const"), "type": "string", "pattern": f"^{re.escape(str(node['const']))}$|{VARIABLE}"}
    if "enum" in node:
        pattern = f"^({'|'.join(re.escape(str(each)) for each in node['enum'])})$|{VARIABLE}"
        return {**_without(node, "enum"), "type": "string", "pattern": pattern}
    if "string" in names:
        if "pattern" in node and VARIABLE not in _alternatives(node["pattern"]):
            return {**node, "pattern": f"{node['pattern']}|{VARIABLE}"}
        return node
    if {"integer", "number", "boolean"} & set(names):
        return {**node, "type": [*names, "string"], "pattern": VARIABLE}
    return node


def _types(node: Schema) -> list[str]:
    names = node.get("type", [])
    return [names] if isinstance(names, str) else list(names)


def _alternatives(pattern: str) -> list[str]:
    """A pattern without the variable, and the variable."""
    own = pattern.removesuffix(f"|{VARIABLE}")
    return [pattern] if own == pattern else [own, VARIABLE]


def _without(node: Schema, key: str) -> Schema:
    return {name: value for name, value in node.items() if name != key}


def _choose_method(config: Schema, definitions: Schema) -> None:
    """One method's options at a time: complaints are about the named one, not about all thirteen."""
    method = config["properties"]["method"]
    targets = method["discriminator"]["mapping"]
    mapping = {name: target.replace("#/$defs/", "#/definitions/") for name, target in targets.items()}
    definitions["Method"] = {
        "description": method["description"],
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string", "pattern": f"^({'|'.join(mapping)})$|{VARIABLE}"}},
        "allOf": [
            {"if": {"properties": {"name": {"const": name}}, "required": ["name"]}, "then": {"$ref": target}}
            for name, target in mapping.items()
        ],
    }
    config["properties"]["method"] = {"$ref": "#/definitions/Method"}


def _closed(properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return schema | {"required": list(required)} if required else schema


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [*_types(schema), "null"]}


def _chart_values(config: Schema, registry: Schema) -> Schema:
    mounted = {"claim": TEXT, "volume": ANY_OBJECT, "subPath": TEXT}
    return {
        "global": ANY_OBJECT,
        "nameOverride": TEXT,
        "fullnameOverride": TEXT,
        "replicas": {"type": "integer", "minimum": 0, "maximum": 64},
        "image": _closed(
            {
                "repository": {"type": "string", "minLength": 1},
                "tag": {"type": "string", "not": {"const": "latest"}},
                "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
                "pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
                "pullSecrets": OBJECTS,
            },
        ),
        "base": _closed(mounted),
        "registries": {
            "type": "array",
            "items": _closed(
                {
                    "name": SHORT_NAME | {"not": {"enum": ["ingest", "push"]}},
                    **mounted,
                    "readOnly": FLAG,
                    "settings": registry,
                },
                required=("name",),
            )
            | {"anyOf": [{"required": ["claim"]}, {"required": ["volume"]}]},
        },
        "config": config,
        "persistence": _persistence(),
        "listenHost": {"enum": ["0.0.0.0", "::"]},  # noqa: S104
        "http": _closed({"port": PORT}),
        "peers": _peers(),
        "service": _closed({"type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]}, "annotations": STRING_MAP}),
        "metrics": _metrics(),
        "networkPolicy": _closed(
            {
                "enabled": FLAG,
                "http": _closed({"from": OBJECTS}),
                "grpc": _closed({"from": OBJECTS}),
                "egress": OBJECTS,
            }
        ),
        "podDisruptionBudget": _closed(
            {
                "enabled": FLAG,
                "maxUnavailable": {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]{1,3}%$"},
            }
        ),
        **_pod(),
    }


def _persistence() -> Schema:
    modes = {"enum": ["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"]}
    volume = {
        "size": SIZE,
        "storageClass": TEXT,
        "accessModes": {"type": "array", "items": modes, "minItems": 1},
        "annotations": STRING_MAP,
        "labels": STRING_MAP,
    }
    kept = {"enum": ["Retain", "Delete"]}
    return _closed(
        {
            "state": _closed(volume),
            "published": _closed({"enabled": FLAG, "claim": TEXT, **volume}),
            "retention": _closed({"whenDeleted": kept, "whenScaled": kept}),
        }
    )


def _peers() -> Schema:
    issuer = _closed({"name": TEXT, "kind": TEXT, "group": TEXT})
    manager = {
        "enabled": FLAG,
        "issuerRef": issuer,
        "duration": SECONDS,
        "renewBefore": SECONDS,
        "extraDnsNames": TEXTS,
    }
    return _closed(
        {
            "enabled": FLAG,
            "port": PORT,
            "neighbours": TEXTS,
            "insecure": FLAG,
            "tls": _closed({"secret": TEXT, "certManager": _closed(manager)}),
            "tokens": _closed({"enabled": FLAG, "port": PORT, "secret": TEXT}),
        }
    )


def _metrics() -> Schema:
    monitor = _closed({"enabled": FLAG, "interval": SECONDS, "scrapeTimeout": SECONDS, "labels": STRING_MAP})
    return _closed(
        {
            "serviceMonitor": monitor,
            "podMonitor": monitor,
            "prometheusRule": _closed({"enabled": FLAG, "labels": STRING_MAP}),
            "dashboards": _closed({"enabled": FLAG, "labels": STRING_MAP, "annotations": STRING_MAP}),
        }
    )


def _pod() -> Schema:
    probe = _closed({"periodSeconds": COUNT, "timeoutSeconds": COUNT, "failureThreshold": COUNT})
    return {
        "resources": _closed({"requests": ANY_OBJECT, "limits": ANY_OBJECT}),
        "tmp": _closed({"sizeLimit": SIZE}),
        "terminationGracePeriodSeconds": _or_null({"type": "integer", "minimum": 20}),
        "probes": _closed({"startup": probe, "liveness": probe, "readiness": probe}),
        "serviceAccount": _closed({"create": FLAG, "name": TEXT, "annotations": STRING_MAP}),
        "podAnnotations": STRING_MAP,
        "podLabels": STRING_MAP,
        "nodeSelector": STRING_MAP,
        "tolerations": OBJECTS,
        "affinity": ANY_OBJECT,
        "topologySpreadConstraints": _or_null({"type": "array", "items": ANY_OBJECT}),
        "priorityClassName": TEXT,
        "runtimeClassName": TEXT,
        "extraEnv": OBJECTS,
        "extraEnvFrom": OBJECTS,
        "extraVolumes": OBJECTS,
        "extraVolumeMounts": OBJECTS,
    }


def as_text() -> str:
    return json.dumps(values_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    TARGET.write_text(as_text(), encoding="utf-8")
