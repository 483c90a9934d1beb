"""The pure parts of the quality benchmark; nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from benchmarks.quality.__main__ import main
from benchmarks.quality.contestants import SMALL, Contestant, contestants
from benchmarks.quality.encoder import MAX_TOKENS
from benchmarks.quality.experts import SETTINGS, experts_of
from benchmarks.quality.figures import backward_transfer, mean_accuracy, norm_rule, share_kept, standard_error
from benchmarks.quality.literal_opcm import opcm_block
from benchmarks.quality.page import main_table, plain, scale_table, task_table
from benchmarks.quality.plan import arrival, first_job, other_jobs, sweep_job
from benchmarks.quality.probes import FIRST_WORD, made_up_texts
from benchmarks.quality.report import write_report
from benchmarks.quality.scoring import Score
from benchmarks.quality.side_cars import fishers, grams
from benchmarks.quality.stream import SilentObserver, merge_stream
from benchmarks.quality.summary import summarise
from benchmarks.quality.tasks import PROTOTYPE_ROWS, TASKS, load_task
from mergenode.adapters.engines.local.engine import Resources
from mergenode.bootstrap.one_shot import MergeRequest, merge_once


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_rows_of_every_class_and_no_text_on_both_sides(name: str) -> None:
    task = load_task(name)
    assert {label for _, label in task.train} == {label for _, label in task.test} == set(range(len(task.labels)))
    chosen = task.prototype_rows()
    assert len(chosen) == PROTOTYPE_ROWS * len(task.labels)
    assert [label for _, label in chosen] == sorted(label for _, label in chosen)
    shards = [task.shard(number, 4) for number in range(4)]
    assert sorted(row for shard in shards for row in shard) == sorted(task.train)
    assert task.test_rows(10) == task.test_rows(20)[:10]
    assert not {text for text, _ in task.train} & {text for text, _ in task.test}


def test_mean_and_error_of_accuracies_by_hand() -> None:
    scores = {"a": Score(50, 100), "b": Score(100, 100)}
    assert mean_accuracy(scores) == 0.75
    assert standard_error(scores) == pytest.approx(0.05 / 2)  # sqrt(0.25 / 100) and nothing, over two tasks


@given(st.floats(0.1, 0.5), st.floats(0.01, 0.5), st.floats(-1, 1.5))
@settings(deadline=None, max_examples=50)
def test_the_share_kept_is_where_the_merge_lies_between_base_and_experts(
    base: float, gain: float, share: float
) -> None:
    assert share_kept(base + share * gain, base, base + gain) == pytest.approx(share, abs=1e-9)


def test_without_a_gain_there_is_no_share() -> None:
    with pytest.raises(ValueError, match="no better than the base"):
        share_kept(0.5, 0.6, 0.6)


def test_backward_transfer_leaves_the_last_task_out() -> None:
    assert backward_transfer([0.9, 0.8, 0.1], [0.7, 0.9, 0.6]) == pytest.approx((-0.2 + 0.1) / 2)
    with pytest.raises(ValueError, match="at least two"):
        backward_transfer([0.9], [0.9])
    with pytest.raises(ValueError, match="2 and 3"):
        backward_transfer([0.9, 0.8], [0.9, 0.8, 0.7])


def test_the_norm_rule_gives_the_merge_the_mean_norm() -> None:
    assert norm_rule(3.0, 6.0) * 6.0 == 3.0
    assert norm_rule(3.0, 0.0) == 0.0


def _checkpoints(folder: Path, count: int) -> list[Path]:
    """A base and ``count`` fine-tunes of two matrices, a vector and a table; the table is never tuned."""
    draw = torch.Generator().manual_seed(5)
    shapes = {"a.weight": (12, 8), "b.weight": (8, 20), "b.bias": (8,), "embeddings.word.weight": (30, 8)}
    base = {name: torch.randn(shape, generator=draw) for name, shape in shapes.items()}
    paths = []
    for number in range(count + 1):
        path = folder / f"model-{number}"
        path.mkdir()
        tuned = {
            name: weight + 0.05 * torch.randn(weight.shape, generator=draw)
            if number and "embed" not in name
            else weight
            for name, weight in base.items()
        }
        save_file(tuned, path / "model.safetensors", metadata={"format": "pt"})
        (path / "config.json").write_text('{"architectures": ["Example"]}')
        paths.append(path)
    return paths


def test_literal_opcm_and_the_streamed_one_are_the_same(tmp_path: Path) -> None:
    base, *experts = _checkpoints(tmp_path, 5)
    weights = [load_file(path / "model.safetensors") for path in (base, *experts)]
    for snapshot in merge_stream(base, experts, "opcm", {"variant": "block"}, [1, 2, 5], tmp_path / "work"):
        literal = opcm_block(weights[0], weights[1 : snapshot.count + 1], ["a.weight", "b.weight"])
        streamed = snapshot.load()
        for name, weight in weights[0].items():
            reach = (literal[name] - weight).norm().item()
            assert (streamed[name] - literal[name]).norm().item() <= 1e-5 * reach + 1e-7
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("method", ["average", "opcm", "aswudi"])
def test_the_stream_publishes_what_a_merge_at_once_does(tmp_path: Path, method: str) -> None:
    base, *experts = _checkpoints(tmp_path, 3)
    request = MergeRequest(
        base=base, output=tmp_path / "merged", models=[(path, 1.0) for path in experts], method=method, options={},
        dtype=None, resources=Resources(memory_limit=4 << 30), max_relative_norm=float("inf"),
    )  # fmt: skip
    merge_once(request, SilentObserver())
    (snapshot,) = (
        (one.state_bytes, one.load()) for one in merge_stream(base, experts, method, {}, [3], tmp_path / "w")
    )
    published = load_file(tmp_path / "merged" / "model.safetensors")
    assert all(torch.equal(published[name], weight) for name, weight in snapshot[1].items())
    assert snapshot[0] > 4 * sum(weight.numel() for weight in published.values()) / 2


def test_orders_hold_the_same_experts_and_differ() -> None:
    setting = SETTINGS["many"]
    listed = experts_of(setting)
    assert len(listed) >= 36 and len({expert.name for expert in listed}) == len(listed)
    orders = [arrival(listed, number) for number in (1, 2, 3)]
    assert orders[0] == listed and len(set(orders)) == 3
    assert all(sorted(order, key=lambda one: one.name) == sorted(listed, key=lambda one: one.name) for order in orders)
    assert orders[1] == arrival(listed, 2)


def test_a_job_is_known_again_by_what_it_depends_on() -> None:
    light, average, opcm = SETTINGS["light"], Contestant("average", "average"), Contestant("OPCM", "opcm")
    jobs = [first_job(light, average, None), first_job(light, opcm, None), first_job(light, opcm, 100)]
    jobs += other_jobs(light, opcm, None)
    jobs += [job for job in (sweep_job(light, opcm, None), sweep_job(light, average, None)) if job]
    # Two contributions have two orders only, so the second and the third order may be one there.
    assert len(jobs) == 3 + 2 * 4 + 1
    distinct = {(job.contestant.label, job.experts, job.swept, job.transfer, job.rows) for job in jobs}
    assert len({job.key for job in jobs}) == len(distinct) >= 11
    assert first_job(light, average, None).key == jobs[0].key
    assert [job.sizes for job in other_jobs(light, opcm, None, [8])] == [(8,), (8,)]
    refined = Contestant("refined", "tsvm", refined=True)
    assert [job.sizes for job in other_jobs(light, refined, None)] == [(8,), (8,)]
    assert Contestant("TSVM", "tsvm").code != opcm.code


def test_every_method_that_needs_weights_only_takes_part() -> None:
    rows = contestants()
    assert set(SMALL) <= {row.label for row in rows}
    assert len({row.label for row in rows}) == len(rows)
    assert {"opcm", "average", "iso", "tsvm", "aswudi"} <= {row.method for row in rows}


def _found() -> dict[str, object]:
    """Two tasks, two methods, one of them measured in two orders, made up by hand: base 0.5, experts 0.9."""

    def snapshot(count: int, **scores: int) -> dict[str, object]:
        own = {task: [correct, 100] for task, correct in scores.items()}
        cost = {"state_bytes": 8_000_000, "fold_cpu": 2.0, "export_cpu": 0.5, "merged_norm": 1.0, "mean_norm": 2.0}
        return {"count": count, "own": own, "norm": own, **cost}

    def row(label: str, *snapshots: dict[str, object]) -> dict[str, object]:
        return {
            "label": label,
            "method": label,
            "options": {},
            "experts": ["a", "b"],
            "order": 1,
            "snapshots": snapshots,
        }

    references = {"base": {"a": [50, 100], "b": [50, 100]}, "experts": [["a", "a", 90, 100], ["b", "b", 90, 100]]}
    sweep = {"1": {"a": [70, 100], "b": [70, 100]}, "0.5": {"a": [60, 100], "b": [60, 100]}}
    swept = {"count": 2, "norm_factor": 2.0, "sweep": {**sweep, "norm": {"a": [90, 100], "b": [50, 100]}}}
    return {
        "setting": "light",
        "recipe": {"rows": 10, "epochs": 1, "shards": 1},
        **references,
        "first": [
            row("average", snapshot(1, a=90), snapshot(2, a=70, b=70)),
            row("<odd>", snapshot(1, a=90), snapshot(2, a=80, b=88)),
        ],
        "others": [row("<odd>", snapshot(2, a=70, b=74)), {"label": "average", "order": 2, "relative": 1e-8}],
        "sweeps": [row("<odd>", swept)],
    }


def test_the_summary_says_what_was_measured() -> None:
    summary = summarise(_found())
    average, odd = summary["rows"]
    assert summary["ceiling"]["mean"] == pytest.approx(0.9)
    assert list(summary["sizes"]) == ["2"]
    assert average["sizes"]["2"]["kept"] == pytest.approx(0.5)
    assert average["backward_transfer"] == pytest.approx(-0.2)
    assert average["order_difference"] == 1e-8
    assert odd["sizes"]["2"]["kept_by_order"] == pytest.approx([0.85, 0.55])
    assert odd["sizes"]["2"]["kept"] == pytest.approx(0.7)
    assert summary["sweeps"]["<odd>"]["2"]["best"] == "1"
    assert summary["sweeps"]["<odd>"]["2"]["kept"]["norm"] == pytest.approx(0.5)


def test_tables_have_a_cell_for_every_head() -> None:
    summary = summarise(_found())
    for head, rows in (main_table(summary), task_table(summary), scale_table(summary)):
        assert rows and all(len(row) == len(head) for row in rows)
    text = plain(main_table(summary))
    assert "50.0 %" in text and "-20.0" in text and "same model" in text


def test_the_report_stands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "light.json").write_text(json.dumps(_found()))
    write_report(tmp_path, tmp_path / "report")
    written = (tmp_path / "report" / "index.html").read_text()
    assert written.count("data:image/png;base64,") == 4
    assert "&lt;odd&gt;" in written and "<odd>" not in written
    assert "http" not in written
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    assert figures["settings"]["light"]["rows"][0]["label"] == "average"
    assert all(path.stat().st_size > 1000 for path in (tmp_path / "report").glob("*.png"))
    assert "light experts" in capsys.readouterr().out


def test_single_rows_take_their_places_in_a_report(tmp_path: Path) -> None:
    found = _found()
    (tmp_path / "light.json").write_text(json.dumps(found))
    write_report(tmp_path, tmp_path / "report")
    again = {**found, "first": [{**found["first"][0], "label": label} for label in ("<odd>", "third")]}  # type: ignore[index]
    (tmp_path / "light-rows.json").write_text(json.dumps({**again, "others": [], "sweeps": []}))
    write_report(tmp_path, tmp_path / "report", onto=True)
    told = json.loads((tmp_path / "report" / "figures.json").read_text())["settings"]["light"]
    assert {row["label"]: row["sizes"]["2"]["kept"] for row in told["rows"]} == pytest.approx(
        {"average": 0.5, "<odd>": 0.5, "third": 0.5}
    )
    assert list(told["sweeps"]) == ["<odd>"]


def test_orders_measured_alone_join_the_rows_of_a_report(tmp_path: Path) -> None:
    found = _found()
    others = found.pop("others")
    (tmp_path / "light.json").write_text(json.dumps({**found, "others": []}))
    write_report(tmp_path, tmp_path / "report")
    (tmp_path / "light-rows.json").write_text(json.dumps({**found, "first": [], "sweeps": [], "others": others}))
    for _ in range(2):  # the second time changes nothing
        write_report(tmp_path, tmp_path / "report", onto=True)
        told = json.loads((tmp_path / "report" / "figures.json").read_text())["settings"]["light"]
        average, odd = told["rows"]
        assert (average["order_difference"], odd["order_difference"]) == (1e-8, None)
        assert average["sizes"]["2"]["kept_by_order"] == pytest.approx([0.5])
        assert odd["sizes"]["2"]["kept_by_order"] == pytest.approx([0.85, 0.55])
        assert odd["sizes"]["2"]["kept"] == pytest.approx(0.7)
        assert list(told["sweeps"]) == ["<odd>"]


def test_orders_of_a_row_that_is_not_there_are_refused(tmp_path: Path) -> None:
    found = _found()
    (tmp_path / "light.json").write_text(json.dumps(found))
    write_report(tmp_path, tmp_path / "report")
    other = {"label": "absent", "order": 2, "relative": 1e-8}
    (tmp_path / "light-rows.json").write_text(json.dumps({**found, "first": [], "sweeps": [], "others": [other]}))
    with pytest.raises(SystemExit, match="absent: no such row"):
        write_report(tmp_path, tmp_path / "report", onto=True)


def test_rows_of_other_experts_are_not_mixed_in(tmp_path: Path) -> None:
    found = _found()
    (tmp_path / "light.json").write_text(json.dumps(found))
    write_report(tmp_path, tmp_path / "report")
    (tmp_path / "light-rows.json").write_text(
        json.dumps({**found, "experts": [["a", "a", 80, 100], ["b", "b", 80, 100]]})
    )
    with pytest.raises(SystemExit, match="not those of the report"):
        write_report(tmp_path, tmp_path / "report", onto=True)


def test_side_cars_say_what_the_layers_saw_and_what_matters() -> None:
    torch.manual_seed(3)
    config = BertConfig(
        vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    model = BertModel(config).eval()
    texts = [[1, 2, 3], [4, 5, 6], [7, 8], [9, 10, 11, 12]]
    found = grams(model, texts)
    # The first matrices of the layer all see the embeddings, summed here text by text.
    with torch.inference_mode():
        seen = torch.cat([model.embeddings(torch.tensor([text]))[0] for text in texts])
    for part in ("query", "key", "value"):
        gram = found[f"encoder.layer.0.attention.self.{part}.weight"]
        torch.testing.assert_close(gram, seen.T @ seen, rtol=1e-4, atol=1e-4)
    assert found["encoder.layer.0.output.dense.weight"].shape == (12, 12)
    weights = fishers(model, torch.nn.functional.normalize(torch.randn(3, 8), dim=1), texts)
    assert "embeddings.word_embeddings.weight" not in weights
    assert all(bool((fisher >= 0).all()) for fisher in weights.values())
    assert float(weights["encoder.layer.0.output.dense.weight"].sum()) > 0


def test_a_size_that_the_plan_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"sizes \[2, 4, 8, 9\], not \[7\]"):
        main(["run", "--work", str(tmp_path), "--parts", "orders", "--sizes", "7", "8"])


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no results"):
        write_report(tmp_path, tmp_path / "report")


def test_made_up_texts_are_about_something_and_come_out_the_same() -> None:
    embeddings = torch.randn(FIRST_WORD + 400, 8, generator=torch.Generator().manual_seed(0))
    texts = made_up_texts(embeddings, 60, seed=3)
    assert texts == made_up_texts(embeddings, 60, seed=3) != made_up_texts(embeddings, 60, seed=4)
    for text in texts:
        assert (text[0], text[-1]) == (101, 102) and 3 <= len(text) <= MAX_TOKENS
        assert all(FIRST_WORD <= word < len(embeddings) for word in text[1:-1])
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    near = [float((unit[text[1:-1]] @ unit[text[1:-1]].T).mean()) for text in texts if len(text) == MAX_TOKENS]
    assert max(near) > 0.2, "words drawn one by one would have a mean cosine of 1 / 30"


def test_what_is_refined_is_refined_at_one_size_and_in_no_other_scale_or_order() -> None:
    row = next(row for row in contestants() if row.refined)
    plain = next(other for other in contestants() if other.label == "TSVM, agreeing")
    assert row.code != plain.code, "the training is part of what the result depends on"
    light = first_job(SETTINGS["light"], row, None)
    assert (light.sizes, len(light.experts)) == ((8,), 8)
    assert not light.transfer and sweep_job(SETTINGS["light"], row, None) is None
