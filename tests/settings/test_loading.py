"""Settings from files: values, defaults, paths, and errors that name file, line, setting and what is allowed."""
# ruff: noqa: E501  (messages are compared whole)

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mergenode.errors import UsageError
from mergenode.settings import METHOD_SECTIONS, load_settings, parse_settings, settings_schema

MINIMAL = "base: ./models/base\nregistries: [./inbox]\n"


def load(text: str, directory: Path = Path("/etc/node")):
    return parse_settings(text, directory=directory)


def complaint(text: str) -> str:
    with pytest.raises(UsageError) as error:
        load(text)
    return error.value.message


def test_two_settings_are_enough() -> None:
    settings = load(MINIMAL)
    assert settings.base == Path("/etc/node/models/base")
    assert settings.registries[0].path == Path("/etc/node/inbox") and settings.registries[0].name == "inbox"
    assert (settings.node.state, settings.publish.path) == (
        Path("/etc/node/state"),
        Path("/etc/node/published"),
    )
    assert settings.method.name == "opcm" and settings.method.options == {}
    assert settings.http.address == ("127.0.0.1", 9464)
    assert settings.engine.memory_limit == 2 << 30 and settings.engine.threads is None
    assert settings.validation.max_header == 100 << 20


def test_relative_paths_count_from_the_file_not_from_the_process(tmp_path, monkeypatch) -> None:
    (tmp_path / "conf").mkdir()
    file = tmp_path / "conf" / "node.yaml"
    file.write_text(MINIMAL + "node: {state: ../state}\n")
    monkeypatch.chdir(tmp_path)
    settings = load_settings("conf/node.yaml")
    assert settings.base == tmp_path / "conf/models/base"
    assert settings.node.state.resolve() == tmp_path / "state"


def test_variables_come_from_the_environment(tmp_path, monkeypatch) -> None:
    file = tmp_path / "node.yaml"
    file.write_text(MINIMAL + "engine:\n  threads: ${T}\n  memory_limit: ${M:-1GiB}\nnode: {name: '${NAME}'}\n")
    monkeypatch.setenv("T", "2")
    monkeypatch.setenv("NAME", "node-7")
    settings = load_settings(file)
    assert (settings.engine.threads, settings.engine.memory_limit, settings.node.name) == (
        2,
        1 << 30,
        "node-7",
    )


def test_a_quoted_variable_is_text_and_an_unquoted_one_in_braces_gets_a_hint() -> None:
    with pytest.raises(UsageError, match=r"setting 'engine[.]threads' is"):
        parse_settings(MINIMAL + "engine: {threads: '${T}'}", directory=Path("/"), environment={"T": "2"})
    with pytest.raises(UsageError, match="not valid YAML") as error:
        parse_settings(MINIMAL + "engine: {threads: ${T}}", directory=Path("/"), environment={"T": "2"})
    assert "must be quoted" in error.value.hint


def test_method_options_are_what_the_file_sets() -> None:
    method = load(MINIMAL + "method: {name: opcm, alpha: 0.25, exclude: ['*.bias'], include: null}").method
    assert method.options == {"alpha": 0.25, "exclude": ("*.bias",)}
    assert load(MINIMAL + "method: {name: task_arithmetic, scale: 1}").method.options == {"scale": 1.0}
    assert load(MINIMAL + "method: {name: average}").method.options == {}


def test_registries_are_urls_or_sections() -> None:
    text = "base: b\nregistries:\n  - /srv/My Inbox!\n  - {url: 'file:///srv/a%20b', name: x, poll_seconds: 1}\n"
    first, second = load(text).registries
    assert (first.name, first.path) == ("My-Inbox", Path("/srv/My Inbox!"))
    assert (second.name, second.path, second.poll_seconds) == ("x", Path("/srv/a b"), 1.0)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        load(MINIMAL).publish.keep = 3  # type: ignore[misc]


def test_an_empty_section_takes_its_defaults() -> None:
    assert load(MINIMAL + "engine:\n  # threads: 2\nlog:\n") == load(MINIMAL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("publish: {keeep: 3}", "settings:3: unknown setting 'publish.keeep'; did you mean 'keep'?"),
        ("keep: 3", "settings:3: unknown setting 'keep'; did you mean 'publish.keep'?"),
        ("publsh: {}", "settings:3: unknown setting 'publsh'; did you mean 'publish'?"),
        ("zzz: 1", "settings:3: unknown setting 'zzz'"),
        ("method: {name: opcm, alhpa: 1}", "settings:3: unknown setting 'method.alhpa'; did you mean 'alpha'?"),
        ("method: {name: opcm, scale: 1}", "settings:3: unknown setting 'method.scale'"),
        ("method:\n  name: opmc", "settings:4: setting 'method.name' is \"opmc\"; allowed is " + ", ".join(map(repr, METHOD_SECTIONS))),
        ("method: {name: iso, scale: big}", "settings:3: setting 'method.scale' is \"big\"; allowed is 'own', 'norm_match', 'evaluate' or a number from -1000000 to 1000000"),
        ("method: {name: iso, scale: true}", "settings:3: setting 'method.scale' is true; allowed is 'own', 'norm_match', 'evaluate' or a number from -1000000 to 1000000"),
        ("method: {name: ties, profile: {a: -1}}", "settings:3: setting 'method.profile.a' is -1; allowed is at least 0"),
        ("method: {alpha: 0.5}", "settings:3: setting 'method.name' is missing"),
        ("method: {name: opcm, alpha: 1}", "settings:3: setting 'method.alpha' is 1; allowed is less than 1"),
        ("method: {name: opcm, alpha: high}", "settings:3: setting 'method.alpha' is \"high\"; allowed is a number"),
        ("publish:\n  keep: true", "settings:4: setting 'publish.keep' is true; allowed is a whole number"),
        ("publish: {keep: 0}", "settings:3: setting 'publish.keep' is 0; allowed is at least 1"),
        ("publish: {keep: 1.5}", "settings:3: setting 'publish.keep' is 1.5; allowed is a whole number"),
        ("publish: {dtype: fp8}", "settings:3: setting 'publish.dtype' is \"fp8\"; allowed is 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("engine: {memory_limit: lots}", "settings:3: setting 'engine.memory_limit' is \"lots\"; allowed is a size such as 512MiB, 2GiB or 4GB, or a number of bytes"),
        ("engine: {threads: 0}", "settings:3: setting 'engine.threads' is 0; allowed is 'auto' or a number from 1 to 1024"),
        ("http: {listen: 9464}", "settings:3: setting 'http.listen' is 9464; allowed is host:port such as 127.0.0.1:9464 or [::1]:9464, or null to switch it off"),
        ("http:", "settings:3: setting 'http' is null; allowed is a section: {listen: null} switches HTTP off, {} takes the default address"),
        ("validation: {max_relative_norm: .inf}", "settings:3: setting 'validation.max_relative_norm' is Infinity; allowed is a finite number"),
        ("log: loud", "settings:3: setting 'log' is \"loud\"; allowed is a section with settings of its own"),
        ("node: {name: 'a b'}", "settings:3: setting 'node.name' is \"a b\"; allowed is a text that matches ^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"),
        ("node: {state: ''}", "settings:3: setting 'node.state' is \"\"; allowed is a path; a relative one counts from the directory of this file"),
        ("node: {state: ./inbox}", "settings:2: registries[0] (/etc/node/inbox) and node.state (/etc/node/inbox) must lie apart from each other"),
        ("publish: {path: ./x/../state/out}", "settings:3: node.state (/etc/node/state) and publish.path (/etc/node/x/../state/out) must lie apart from each other"),
        ("publish:\n  every: {contributions: null}", "settings:4: setting 'publish.every' is {\"contributions\": null}; allowed is at least one of contributions and seconds, or nothing would ever be published"),
    ],
)  # fmt: skip
def test_a_wrong_setting_is_told_with_line_value_and_what_is_allowed(text: str, message: str) -> None:
    assert complaint(MINIMAL + text).removesuffix(".0") == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "settings:1: setting 'base' is missing\nsettings:1: setting 'registries' is missing"),
        ("[1]", "settings:1: the file must hold settings by name, such as base: ./base"),
        ("base: b\nregistries: inbox", "settings:2: setting 'registries' is \"inbox\"; allowed is a list"),
        ("base: b\nregistries:\n- s3://bucket/x", "settings:3: setting 'registries[0]' is \"s3://bucket/x\"; allowed is a path or a file:// URL (scheme 's3' is not known)"),
        ("base: b\nregistries:\n- file://host/x", "settings:3: setting 'registries[0]' is \"file://host/x\"; allowed is a file URL with an absolute path: file:///srv/inbox"),
        ("base: b\nregistries: [{name: x}]", "settings:2: setting 'registries[0].url' is missing"),
        ("base: b\nregistries:\n- /a/x\n- /b/x", "settings:4: the registry name 'x' occurs twice; set another name for one of them"),
        ("base: b\nregistries: [/a/push]", "settings:2: the registry name 'push' is taken by `mergenode push`; set another name"),
        ("base: b\nregistries: [/a/ingest]", "settings:2: the registry name 'ingest' is taken by `mergenode ingest`; set another name"),
        ("base: b\nregistries: [{url: /a, name: ../x}]", "settings:2: setting 'registries[0]' is {\"url\": \"/a\", \"name\": \"../x\"}; allowed is a name of letters, digits, '.', '_' and '-', at most 63, as 'name'"),
    ],
)  # fmt: skip
def test_wrong_base_or_registries(text: str, message: str) -> None:
    assert complaint(text) == message


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    message = complaint("publish: {keep: 0}\nbase: b\nlogg: {}\nregistries: [a]\nengine: {device: tpu}")
    assert [line.split(":")[1] for line in message.splitlines()] == ["1", "3", "5"]


def test_a_very_long_value_is_shortened_in_the_message() -> None:
    assert len(complaint(MINIMAL + f"log: {{level: {'x' * 10_000}}}")) < 300


def test_the_schema_accepts_what_the_loader_accepts() -> None:
    schema = settings_schema()
    json.dumps(schema, allow_nan=False)
    assert schema["required"] == ["base", "registries"]
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) >= {"node", "base", "registries", "method", "publish", "http", "engine"}
    registry = schema["$defs"]["RegistrySettings"]
    assert [kind.get("type") for kind in registry["anyOf"]] == ["string", "object"]
    method = schema["properties"]["method"]
    assert set(method["discriminator"]["mapping"]) == set(METHOD_SECTIONS)
