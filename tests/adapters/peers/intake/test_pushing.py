"""The pushing side: what is tried again and when, what is given up, what goes over the line."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mergenode.adapters.peers.intake.intake_service import IntakeService
from mergenode.adapters.peers.pushing.local_model import describe_model
from mergenode.adapters.peers.pushing.push_channel import PushCredentials, channels_to, push_address, token_metadata
from mergenode.adapters.peers.pushing.pushing import PushOrder, PushTimes, idempotency_key
from mergenode.adapters.signatures.keys import make_key, word_of
from mergenode.adapters.signatures.signing import check_signature, sign_checkpoint
from mergenode.errors import FatalError, RejectedError, RejectReason, TransientError, TransientReason, UsageError
from mergenode.gates.evidence import SignatureStatus
from tests.support.checkpoints import base_tensors, finetuned, write_file, write_single
from tests.support.clock import FakeClock
from tests.support.heard import Heard
from tests.support.intake import FakeCaller, Intake, open_uploads


class GivenUp(BaseException):
    """The user pressed Ctrl-C."""


class Pauses:
    """Remembers how long was waited; gives up after so many. Time passes on ``clock`` meanwhile."""

    def __init__(self, most: int, clock: FakeClock | None = None) -> None:
        self.most, self.clock = most, clock
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if self.clock is not None:
            self.clock.advance(seconds)
        if len(self.seconds) >= self.most:
            raise GivenUp


def test_back_off_doubles_with_full_jitter_up_to_a_minute(intake: Intake, tuned: Path) -> None:
    intake.service.drain()
    pauses = Pauses(9)
    with pytest.raises(GivenUp):
        intake.push(tuned, pause=pauses, clock=FakeClock(), jitter=lambda: 1.0)
    assert pauses.seconds == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    pauses = Pauses(3)
    with pytest.raises(GivenUp):
        intake.push(tuned, pause=pauses, clock=FakeClock(), jitter=lambda: 0.5)
    assert pauses.seconds == [0.5, 1, 2]


def test_a_signature_holds_for_what_arrives(intake: Intake, tuned: Path, tmp_path: Path) -> None:
    key = make_key(tmp_path / "key.pem")
    sign_checkpoint(tuned, key)
    intake.push(tuned)
    (arrived,) = (path.parent for path in tmp_path.glob("**/pushes/*/mergenode.sig.json"))
    word = word_of(key.public_key())
    assert check_signature(arrived, registry="push", trusted=[word]).status is SignatureStatus.VALID


def test_what_the_node_asks_for_is_waited(intake: Intake, tuned: Path) -> None:
    for number in range(4):
        other = write_single(tuned.parent / f"other-{number}", finetuned(base_tensors(), seed=20 + number))
        with describe_model(other) as model, intake.channel() as channel:
            intake.pushing(model, other.name)._begin(channel)
    pauses = Pauses(1)
    with pytest.raises(GivenUp):
        intake.push(tuned, pause=pauses)
    assert pauses.seconds == [15.0]


def test_a_node_that_is_not_there_is_given_up_soon(tuned: Path, intake: Intake) -> None:
    intake.stop()
    clock = FakeClock()
    pauses = Pauses(100, clock)
    with pytest.raises(FatalError, match="it was never reached") as caught:
        intake.push(tuned, pause=pauses, clock=clock, jitter=lambda: 1.0)
    assert "nothing listens there" in caught.value.message and "that the node runs" in caught.value.hint
    assert pauses.seconds == [1, 2, 4, 4, 4, 4]


def test_patience_with_a_node_that_was_there(intake: Intake, tuned: Path) -> None:
    clock = FakeClock()
    pauses = Pauses(100, clock)
    with describe_model(tuned) as model:
        pushing = intake.pushing(model, clock=clock, pause=pauses, jitter=lambda: 1.0)
        report = pushing.push()
        intake.stop()
        with pytest.raises(FatalError, match="no progress for"):
            pushing.wait(report)
    assert sum(pauses.seconds) >= PushTimes().patience


def test_a_stream_that_stands_still_is_ended_and_begun_again(
    intake: Intake, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deaf(*_: object) -> None:
        await asyncio.Event().wait()

    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(IntakeService, "_take_blocks", deaf)
        with pytest.raises(GivenUp):
            intake.push(tuned, pause=Pauses(1), tell=told.append, times=PushTimes(idle=0.2))
    assert "nothing moved" in told[0]
    assert intake.push(tuned).outcome == "accepted"


def _rewritten(path: Path) -> None:
    write_single(path, finetuned(base_tensors(), seed=77))


def _same_stamp(path: Path) -> None:
    file = path / "model.safetensors"
    before = file.stat()
    with open(file, "r+b") as stream:
        stream.seek(-64, os.SEEK_END)
        stream.write(b"\x01" * 64)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("change", [_rewritten, _same_stamp])
def test_a_model_that_changes_is_noticed(intake: Intake, tuned: Path, change: Callable[[Path], None]) -> None:
    with describe_model(tuned) as model:
        change(tuned)
        with pytest.raises(TransientError) as caught:
            intake.push(model)
    assert caught.value.reason is TransientReason.CHANGED_WHILE_READING


def test_values_that_are_none_are_refused_here(tmp_path: Path) -> None:
    tensors = finetuned(base_tensors())
    tensors["model.norm.weight"][3] = float("nan")
    with pytest.raises(RejectedError, match=r"model\.norm\.weight") as caught:
        describe_model(write_single(tmp_path / "nan", tensors))
    assert caught.value.reason is RejectReason.NOT_FINITE


def test_what_stays_behind_is_told(tuned: Path) -> None:
    write_file(tuned / "model.fisher.safetensors", {"w": torch.ones(2)})
    write_file(tuned / "extra.safetensors", {"w": torch.ones(2)})
    (tuned / "tokenizer.json").write_text("x" * 70_000)
    (tuned / "modeling.py").write_text("import os")
    with describe_model(tuned) as model:
        assert set(model.files) == {"config.json"}
        assert [note.split()[0] for note in model.notes] == ["model.fisher.safetensors", "extra.safetensors"]


def test_blocks_are_packed_where_it_pays(state: Path, tmp_path: Path) -> None:
    draw = torch.Generator().manual_seed(1)
    tensors = {f"w{number}": torch.randn(512, 512, generator=draw).bfloat16() for number in range(3)}
    base = write_single(tmp_path / "base", tensors)
    tuned = write_single(tmp_path / "tuned", {name: tensor + 0.5 for name, tensor in tensors.items()})
    with Intake(open_uploads(state, base)) as intake:
        report = intake.push(tuned)
    assert report.bytes_sent < 0.9 * report.bytes_total
    with Intake(open_uploads(state.with_name("raw"), base)) as intake:
        report = intake.push(tuned, compress=False)
    assert report.bytes_sent == report.bytes_total


def test_keys_follow_content_name_and_lineage(tuned: Path, adapter: Path) -> None:
    with describe_model(tuned) as model, describe_model(adapter) as other:
        order = PushOrder(name="a", lineage="x")
        keys = {idempotency_key(model, order), idempotency_key(other, order)}
        keys |= {idempotency_key(model, PushOrder(name=name, lineage=at)) for name, at in (("b", "x"), ("a", "y"))}
        assert len(keys) == 4
        assert idempotency_key(model, PushOrder(name="a", lineage="x", weight=2.0)) in keys


def test_progress_ends_with_everything(intake: Intake, tuned: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = intake.push(tuned, watch=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (report.bytes_total, report.bytes_total)


def test_the_node_hears_how_far_an_upload_is(tmp_path: Path, base: Path, tuned: Path) -> None:
    heard = Heard()
    with Intake(open_uploads(tmp_path / "heard", base, observer=heard)) as intake:
        report = intake.push(tuned, name="mine")
    words = heard.of("transfer")
    assert {word.subject for word in words} == {"mine from team-a"} and {word.peer for word in words} == {"team-a"}
    assert words[-1].over and words[0].bytes_done < words[-1].bytes_done <= words[-1].bytes_total == report.bytes_total


@pytest.mark.parametrize(
    ("text", "address"),
    [("node:50051", "node:50051"), ("grpc://node:1/", "node:1"), ("[::1]:50051", "[::1]:50051")],
)
def test_addresses(text: str, address: str) -> None:
    assert push_address(text) == address


@pytest.mark.parametrize("text", ["node", "node:", ":1", "node:x", "node:99999", "http://node:1", "a/b:1", "node:0"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(UsageError, match="is not host:port"):
        push_address(text)


def self_signed(directory: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    now = datetime(2025, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=36500))
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    path = directory / "ca.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def test_a_line_that_is_not_secure_is_told_at_once(intake: Intake, tuned: Path, tmp_path: Path) -> None:
    channels = channels_to(intake.address, PushCredentials(authority=self_signed(tmp_path)))
    with pytest.raises(FatalError, match="no secure connection") as caught:
        intake.push(tuned, open_channel=channels, pause=Pauses(1))
    assert "--tls-ca" in caught.value.hint


def test_credentials_that_do_not_go_together(tmp_path: Path) -> None:
    token, ca = tmp_path / "token", self_signed(tmp_path)
    token.write_text("abc.def.ghi\n")
    far = "merge.example.org:50051"
    for credentials, said in (
        (PushCredentials(certificate=ca), "belong together"),
        (PushCredentials(token=token), "in the clear"),
        (PushCredentials(token=token, insecure=True), "in the clear"),
        (PushCredentials(), "not on this machine"),
        (PushCredentials(authority=tmp_path / "absent"), "No such file"),
    ):
        with pytest.raises(UsageError, match=said):
            channels_to(far, credentials)
    for credentials in (PushCredentials(insecure=True), PushCredentials(authority=ca, token=token)):
        channels_to(far, credentials)().close()
    channels_to("localhost:1", PushCredentials(token=token))().close()
    assert token_metadata(PushCredentials(token=token)) == (("authorization", "Bearer abc.def.ghi"),)
    assert token_metadata(PushCredentials()) == ()
    for text in ("", "a b", "ü", "a\nb"):
        token.write_text(text)
        with pytest.raises(UsageError, match="holds no token"):
            token_metadata(PushCredentials(token=token))


def test_a_role_that_is_missing_is_told(intake: Intake, tuned: Path) -> None:
    intake.callers["team-x"] = FakeCaller("team-x", lineages=())
    with pytest.raises(FatalError, match="may not push") as caught:
        intake.push(tuned, pusher="team-x")
    assert "scope" in caught.value.hint
