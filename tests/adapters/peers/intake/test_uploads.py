"""The store of uploads on its own: killed anywhere nothing is lost and nothing half visible; quotas; expiry."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from mergenode.adapters.checkpoints.digest import content_digest
from mergenode.adapters.peers.intake.allowances import DAY_SECONDS, SMALLEST_CHARGE
from mergenode.adapters.peers.intake.intake_refusals import RefusedError
from mergenode.adapters.peers.intake.outcomes import Fate, Outcome
from mergenode.adapters.peers.intake.push_records import PushRecord
from mergenode.adapters.peers.intake.upload import Upload
from mergenode.adapters.peers.intake.upload_admission import UploadLimits
from mergenode.adapters.peers.intake.upload_terms import Terms, terms_of
from mergenode.adapters.peers.intake.uploads import IntakeSide, Uploads
from mergenode.adapters.peers.pushing.local_model import LocalModel, describe_model
from mergenode.adapters.registries.pushes import REGISTRY, PushesRegistry, pushes_directory
from mergenode.errors import TransientError, TransientReason
from mergenode.types import Candidate
from mergenode.wire.blocks import block_id
from mergenode.wire.encoding import Encoded, Encoding
from mergenode.wire.journal import indexes_in
from mergenode.wire.transfer import Verdict
from mergenode.wire.v1.intake_pb2 import BeginRequest
from tests.support.checkpoints import base_tensors, finetuned, write_single
from tests.support.clock import FakeClock
from tests.support.intake import GENEROUS, FakeOutcomes, open_uploads
from tests.support.killed_calls import Killed, KilledCalls

LINEAGE = "mergenode"


def go_on() -> None:
    """Nobody ends the work."""


def terms_for(
    model: LocalModel, owner: str = "team-a", name: str = "tuned", **fields: object
) -> tuple[Terms, dict[str, bytes]]:
    manifest = model.manifest
    request = BeginRequest(
        lineage=LINEAGE, name=name, root=manifest.root, manifest_bytes=len(manifest.packed),
        weight_bytes=manifest.total_bytes, files=dict(model.files), **fields,  # type: ignore[arg-type]  # as given
    )  # fmt: skip
    return terms_of(owner, LINEAGE, request)


def begin(uploads: Uploads, model: LocalModel, owner: str = "team-a", name: str = "tuned") -> bytes:
    upload_id, wait = uploads.begin(*terms_for(model, owner, name))
    assert not wait
    return upload_id


def send(
    uploads: Uploads, model: LocalModel, owner: str = "team-a", name: str = "tuned", most: int = 1 << 30
) -> tuple[bytes, int]:
    """Everything but the commit; upload id and number of blocks sent."""
    upload_id = begin(uploads, model, owner, name)
    upload = uploads.of(owner, upload_id)
    sent = 0
    if isinstance(upload, PushRecord):
        return upload_id, sent
    if not upload.prepared:
        upload.spool(0, model.manifest.packed)
    _, wanted = uploads.prepare(upload, go_on)
    with upload.used():
        for index in list(indexes_in(wanted))[:most]:
            block = model.read(model.manifest.place(index))
            assert upload.blocks().put(index, Encoded(Encoding.RAW, block), owner) is Verdict.VERIFIED
            sent += 1
    return upload_id, sent


def push(uploads: Uploads, model: LocalModel, owner: str = "team-a", name: str = "tuned") -> PushRecord:
    upload_id, _ = send(uploads, model, owner, name)
    return uploads.commit(owner, upload_id, go_on)


def reopened(uploads: Uploads) -> Uploads:
    """As the next process finds it."""
    return Uploads(uploads.side)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def uploads(state: Path, base: Path, outcomes: FakeOutcomes, clock: FakeClock) -> Uploads:
    return open_uploads(state, base, outcomes=outcomes, clock=clock)


def entries(uploads: Uploads) -> list[str]:
    return sorted(os.listdir(pushes_directory(uploads.side.state)))


def candidates(side: IntakeSide) -> tuple[Candidate, ...]:
    listing = PushesRegistry(side.state, clock=side.clock).list()
    assert listing.unsettled == listing.refused == ()
    return listing.candidates


def test_killed_at_any_step_nothing_is_lost_and_nothing_half_visible(
    tmp_path: Path, base: Path, tuned: Path, clock: FakeClock
) -> None:
    content, steps, at = content_digest(tuned), 0, 0
    side = open_uploads(tmp_path / "first", base, clock=clock).side
    with describe_model(tuned) as model:
        while True:
            here = replace(side, state=tmp_path / f"state-{at}", outcomes=FakeOutcomes())
            kill = KilledCalls(at)
            try:
                with kill.installed():
                    push(Uploads(here), model)
            except Killed:
                pass
            else:
                break
            uploads = Uploads(here)
            assert all(found.content == content and found.attested for found in candidates(here))
            for upload in uploads._uploads.values():
                _check_journal(upload, model)
            record = push(uploads, model)
            (found,) = candidates(here)
            assert (found.content, found.name, found.attested) == (content, record.entry, True)
            assert content_digest(Path(found.location)) == content
            assert {path.name for path in Path(found.location).iterdir()} == {
                "model.safetensors", "config.json", "mergenode.commit.json", "mergenode.push.json",
            }  # fmt: skip
            assert sorted(os.listdir(here.state / "intake")) == ["accounts", "answers"]
            assert uploads._allowances.spent("team-a") == SMALLEST_CHARGE, "counted once"
            steps, at = steps + 1, at + 1
    assert steps > 40


def _check_journal(upload: Upload, model: LocalModel) -> None:
    """What the journal says is on disk."""
    if not upload.prepared:
        return
    with upload.used():
        blocks = upload.blocks()
        for index in indexes_in(blocks._transfer.written):
            place = model.manifest.place(index)
            assert block_id(blocks._staged.read(place)) == place.id


def test_killed_at_any_step_of_removing_a_rejected_push_the_answer_stays(
    tmp_path: Path, base: Path, tuned: Path, clock: FakeClock
) -> None:
    side = open_uploads(tmp_path / "first", base, clock=clock).side
    with describe_model(tuned) as model:
        for at in range(100):
            outcomes = FakeOutcomes()
            here = replace(side, state=tmp_path / f"state-{at}", outcomes=outcomes)
            uploads = Uploads(here)
            record = push(uploads, model)
            (candidate,) = candidates(here)
            outcomes.pushes[record.entry] = Outcome(Fate.REJECTED, "not_finite", "NaN")
            kill = KilledCalls(at)
            try:
                with kill.installed():
                    uploads.settled(candidate)
                done = True
            except Killed:
                done = False
            again = Uploads(here)
            assert entries(again) == []
            found = again.of("team-a", bytes.fromhex(record.id))
            assert isinstance(found, PushRecord)
            answer = again.answer(found)
            assert answer is not None and answer.reason == "not_finite"
            if done:
                return
    raise AssertionError("never done")


def test_the_file_is_synced_before_the_journal_that_speaks_of_it(
    uploads: Uploads, tuned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_sync, real_replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        order.append("sync " + os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real_sync(fd)

    def replaced(source: Path, target: Path) -> None:
        order.append("replace " + os.path.basename(target))
        real_replace(source, target)

    with describe_model(tuned) as model:
        send(uploads, model, most=3)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "replace", replaced)
        send(uploads, model, most=1)
    assert order[:3] == ["sync model.safetensors", "sync ..journal.new", "replace .journal"]


def test_it_goes_on_where_it_stopped(uploads: Uploads, tuned: Path) -> None:
    with describe_model(tuned) as model:
        _, first = send(uploads, model, most=4)
        again = reopened(uploads)
        _, rest = send(again, model)
        assert first == 4 and rest > 0
        assert first + rest == send(open_uploads_beside(uploads), model)[1], "nothing was sent twice"
        push(again, model)


def open_uploads_beside(uploads: Uploads) -> Uploads:
    return Uploads(replace(uploads.side, state=uploads.side.state.with_name("beside")))


@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_journal_costs_time_and_no_block(uploads: Uploads, tuned: Path, damage: bytes | None) -> None:
    with describe_model(tuned) as model:
        upload_id, _ = send(uploads, model, most=4)
        folder = uploads.side.state / "intake" / upload_id.hex()
        journal = (folder / ".journal").read_bytes()
        (folder / ".journal").write_bytes(journal[:-1] + b"x" if damage is None else damage)
        again = reopened(uploads)
        upload = again.of("team-a", upload_id)
        assert isinstance(upload, Upload)
        with upload.used():
            left = upload.blocks().wanted
        _, rest = send(again, model)
        assert rest == left.bit_count()
        assert push(again, model).entry


def test_what_the_disk_lost_is_wanted_again(uploads: Uploads, tuned: Path) -> None:
    with describe_model(tuned) as model:
        upload_id, sent = send(uploads, model)
        file = uploads.side.state / "intake" / upload_id.hex() / "model.safetensors"
        with open(file, "r+b") as stream:
            stream.seek(-100, os.SEEK_END)
            stream.write(b"\xff" * 100)
        with pytest.raises(RefusedError, match="missing"):
            uploads.commit("team-a", upload_id, go_on)
        _, again = send(reopened(uploads), model)
        assert 0 < again < sent
        assert push(reopened(uploads), model).entry


def test_a_commit_that_comes_too_early_says_what_is_missing(uploads: Uploads, tuned: Path) -> None:
    with describe_model(tuned) as model:
        upload_id, _ = send(uploads, model, most=2)
        with pytest.raises(RefusedError, match=f"of {model.manifest.block_count} blocks are missing"):
            uploads.commit("team-a", upload_id, go_on)
        assert entries(uploads) == []
        send(uploads, model)
        first = uploads.commit("team-a", upload_id, go_on)
        assert uploads.commit("team-a", upload_id, go_on) == first


def test_a_quota_counts_for_a_day_and_over_restarts(uploads: Uploads, clock: FakeClock, tmp_path: Path) -> None:
    side = replace(uploads.side, limits=replace(GENEROUS, daily_quota=2 * SMALLEST_CHARGE))
    uploads = Uploads(side)
    for seed in (1, 2):
        with describe_model(write_single(tmp_path / f"m{seed}", finetuned(base_tensors(), seed=seed))) as model:
            push(uploads, model, name=f"m{seed}")
    third = write_single(tmp_path / "m3", finetuned(base_tensors(), seed=3))
    with describe_model(third) as model:
        for store in (uploads, Uploads(side)):
            with pytest.raises(RefusedError, match="above its quota") as caught:
                begin(store, model)
            assert 0 < caught.value.retry_after_ms <= DAY_SECONDS * 1000 + 1
        begin(uploads, model, owner="team-b")
        clock.advance(DAY_SECONDS + 1)
        push(uploads, model)


def test_open_uploads_count_before_they_are_sent(uploads: Uploads, tuned: Path, tmp_path: Path) -> None:
    with describe_model(tuned) as model:
        total = model.manifest.total_bytes
        uploads = Uploads(replace(uploads.side, limits=replace(GENEROUS, daily_quota=SMALLEST_CHARGE + total - 1)))
        begin(uploads, model)
        other = write_single(tmp_path / "other", finetuned(base_tensors(), seed=9))
        with describe_model(other) as second, pytest.raises(RefusedError, match="under way"):
            begin(uploads, second)


def test_the_disk_counts_what_others_may_still_take(uploads: Uploads, tuned: Path, tmp_path: Path, monkeypatch) -> None:
    with describe_model(tuned) as model:
        needed = model.manifest.total_bytes + len(model.manifest.packed)
        monkeypatch.setattr("mergenode.adapters.peers.intake.upload_admission.free_bytes", lambda place: 2 * needed - 1)
        begin(uploads, model)
        other = write_single(tmp_path / "other", finetuned(base_tensors(), seed=9))
        with describe_model(other) as second, pytest.raises(RefusedError, match="the disk of the node"):
            begin(uploads, second, owner="team-b")


def test_a_full_disk_is_trouble_and_the_upload_stays(uploads: Uploads, tuned: Path, monkeypatch) -> None:
    def full(fd: int, offset: int, length: int) -> None:
        raise OSError(28, "No space left on device")

    with describe_model(tuned) as model:
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            with pytest.raises(TransientError) as caught:
                send(uploads, model)
            assert caught.value.reason is TransientReason.DISK_FULL
        assert push(uploads, model).entry


def test_uploads_without_progress_are_dropped_and_charged_for_what_came(
    uploads: Uploads, tuned: Path, clock: FakeClock
) -> None:
    with describe_model(tuned) as model:
        upload_id, _ = send(uploads, model, most=3)
        clock.advance(GENEROUS.expire_seconds - 1)
        uploads.tidy()
        assert isinstance(uploads.of("team-a", upload_id), Upload)
        clock.advance(2)
        uploads.tidy()
        with pytest.raises(RefusedError, match="there is no upload"):
            uploads.of("team-a", upload_id)
    assert sorted(os.listdir(uploads.side.state / "intake")) == ["accounts", "answers"]
    assert uploads._allowances.spent("team-a") == SMALLEST_CHARGE


def test_an_upload_that_is_worked_on_never_expires(uploads: Uploads, tuned: Path, clock: FakeClock) -> None:
    with describe_model(tuned) as model:
        upload_id, _ = send(uploads, model, most=3)
        upload = uploads.of("team-a", upload_id)
        assert isinstance(upload, Upload)
        with upload.used():
            clock.advance(10 * GENEROUS.expire_seconds)
            uploads.tidy()
            assert uploads.of("team-a", upload_id) is upload


def test_a_rejected_push_may_be_pushed_again_later(
    uploads: Uploads, tuned: Path, outcomes: FakeOutcomes, clock: FakeClock
) -> None:
    with describe_model(tuned) as model:
        record = push(uploads, model)
        outcomes.pushes[record.entry] = Outcome(Fate.REJECTED, "other_base", "too far")
        uploads.settled(candidates(uploads.side)[0])
        assert entries(uploads) == [] and push(uploads, model).rejected
        clock.advance(GENEROUS.expire_seconds + 1)
        outcomes.pushes.clear()
        assert push(uploads, model).entry == record.entry
        assert entries(uploads) == [record.entry]


def test_files_of_what_was_folded_or_taken_out_stay(uploads: Uploads, tuned: Path, outcomes: FakeOutcomes) -> None:
    with describe_model(tuned) as model:
        record = push(uploads, model)
        for fate in (Fate.FOLDED, Fate.RETRACTED):
            outcomes.pushes[record.entry] = Outcome(fate)
            uploads.settled(candidates(uploads.side)[0])
            assert entries(reopened(uploads)) == [record.entry]


def test_other_settings_of_an_adapter_are_another_content(uploads: Uploads, adapter: Path, tmp_path: Path) -> None:
    import json
    import shutil

    other = tmp_path / "other" / "adapter"
    shutil.copytree(adapter, other)
    settings = json.loads((other / "adapter_config.json").read_text())
    (other / "adapter_config.json").write_text(json.dumps(settings | {"lora_alpha": 3}))
    with describe_model(adapter) as first, describe_model(other) as second:
        assert first.manifest.root == second.manifest.root
        names = {push(uploads, model, name="adapter").entry for model in (first, second)}
    assert set(entries(uploads)) == names and len(names) == 2


def test_sizes_cannot_be_changed_after_room_was_checked(uploads: Uploads, tuned: Path) -> None:
    uploads = Uploads(replace(uploads.side, limits=replace(GENEROUS, max_upload=1000)))
    with describe_model(tuned) as model:
        terms, files = terms_for(model)
        small = replace(terms, weight_bytes=10)
        assert uploads.begin(small, files) == (terms.id, 0.0)
        with pytest.raises(RefusedError, match="one upload may have 1000"):
            uploads.begin(terms, files)
        uploads = Uploads(replace(uploads.side, limits=GENEROUS))
        send(uploads, model, most=1)
        with pytest.raises(RefusedError, match="other sizes"):
            uploads.begin(small, files)
        assert push(uploads, model).entry


def test_a_sync_that_fails_after_the_rename_is_made_good(uploads: Uploads, tuned: Path, monkeypatch) -> None:
    from mergenode.adapters import durable

    real, failures = durable.sync_directory, [OSError(5, "Input/output error")]

    def failing(path: Path | str) -> None:
        if Path(path) == pushes_directory(uploads.side.state) and failures:
            raise failures.pop()
        real(path)

    monkeypatch.setattr(durable, "sync_directory", failing)
    with describe_model(tuned) as model:
        upload_id, _ = send(uploads, model)
        with pytest.raises(TransientError):
            uploads.commit("team-a", upload_id, go_on)
        record = uploads.commit("team-a", upload_id, go_on)
        assert entries(uploads) == [record.entry] and push(uploads, model) == record


def test_stray_files_do_no_harm(uploads: Uploads, tuned: Path) -> None:
    for name in ("notes.txt", ".hidden"):
        (uploads.side.state / "intake" / name).write_text("x")
    (uploads.side.state / "intake" / "junk").mkdir()
    (pushes_directory(uploads.side.state) / "notes.txt").write_text("x")
    again = reopened(uploads)
    assert not (uploads.side.state / "intake" / "junk").exists()
    with describe_model(tuned) as model:
        assert push(again, model).entry


def test_new_terms_count_until_the_commit(uploads: Uploads, tuned: Path) -> None:
    from mergenode.adapters.registries.marker import read_marker

    with describe_model(tuned) as model:
        begin(uploads, model)
        uploads.begin(*terms_for(model, weight=0.25))
        record = push_committed(uploads, model)
    marker = read_marker(pushes_directory(uploads.side.state) / record.entry)
    assert marker is not None and marker.weight == 0.25


def push_committed(uploads: Uploads, model: LocalModel) -> PushRecord:
    upload = uploads.of("team-a", terms_for(model)[0].id)
    assert isinstance(upload, Upload)
    upload.spool(0, model.manifest.packed)
    _, wanted = uploads.prepare(upload, go_on)
    with upload.used():
        for index in indexes_in(wanted):
            upload.blocks().put(index, Encoded(Encoding.RAW, model.read(model.manifest.place(index))), "team-a")
    return uploads.commit("team-a", upload.terms.id, go_on)


def test_limits_are_those_of_the_settings() -> None:
    from mergenode.settings.peers import IntakeSettings

    settings, limits = IntakeSettings(), UploadLimits()
    assert (settings.max_upload, settings.daily_quota, settings.min_free, settings.expire_seconds) == (
        limits.max_upload, limits.daily_quota, limits.min_free, limits.expire_seconds,
    )  # fmt: skip


def test_registry_name() -> None:
    assert REGISTRY == "push"
