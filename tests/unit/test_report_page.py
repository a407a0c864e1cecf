"""The page and the figures of whole runs: what failed, what is missing, what a reader is told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from report_run import store_run, suite

from splitaudit.plan import Node, Plan
from splitaudit.report import write_derived
from splitaudit.report.figures import draw_figures
from splitaudit.report.gaps import counts, empty, failures, skips
from splitaudit.report.html import page as page_of
from splitaudit.report.matrix import build_matrix
from splitaudit.report.picture_lines import MOST, picture_lines
from splitaudit.report.reading import Records
from splitaudit.report.tables import build_tables
from splitaudit.store import Store

PLACE = ("photos", "cnn4", "block2")


def decoder_fails(node: Node) -> str | None:
    fails = node.kind == "fit" and node.identity["attack"]["name"] == "decoder" and _seed(node) == 1
    return "out of cheese" if fails else None


def _seed(node: Node) -> int:
    return int(node.title.split("seed ")[1][0])


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan, Any]:
    """A run in which the decoder could not be trained on the second seed."""
    folder = tmp_path_factory.mktemp("made-up")
    plan, private = store_run(folder, suite(), decoder_fails)
    return folder, plan, private


@pytest.fixture(scope="module")
def page(stored: tuple[Path, Plan, Any]) -> str:
    folder, plan, private = stored
    write_derived(folder, plan, Store.open(folder), private, no_images=False)
    return (folder / "report.html").read_text()


@pytest.fixture
def unrendered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what takes the time where a test is about which figures there are and not about how they look."""
    monkeypatch.setattr("splitaudit.report.write._rendered", lambda drawn: (b"png", "<svg/>"))


@pytest.fixture
def records(stored: tuple[Path, Plan, Any]) -> Records:
    folder, plan, _ = stored
    return Records(plan, Store.open(folder).read)


def words(html: str) -> str:
    """Returns the text of a page, without tags, pictures and style."""
    bare = re.sub(r"<style>.*?</style>|<[^>]*>", " ", html, flags=re.S)
    return re.sub(r"\s+", " ", bare)


def test_failures_are_counted_where_the_page_begins_and_listed_with_their_tracebacks(page: str) -> None:
    top, rest = page.split('id="found"')
    assert "3 failed" in words(top)
    assert "6 skipped because something failed" in words(top)
    assert "fit of decoder on none, seed 1" in words(top)
    assert rest.count("out of cheese</pre>") == 3


def test_a_failed_fit_is_a_failure_though_no_row_of_a_table_is_one(
    stored: tuple[Path, Plan, Any], records: Records
) -> None:
    _, plan, _ = stored
    assert [f.what for f in failures(plan, records)] == [
        f"fit of decoder on {d}, seed 1" for d in ("none", "noise", "siftfunnel")
    ]
    (_, targets), (_, cells) = counts(plan, records)
    assert targets == {
        "done": 6,
        "failed": 0,
        "skipped because something failed": 0,
        "not run": 0,
        "skipped as not possible": 0,
    }
    assert cells["done"] + cells["skipped because something failed"] + cells["skipped as not possible"] == len(
        plan.cells
    )


def test_what_was_lost_and_what_was_never_possible_are_told_apart(
    stored: tuple[Path, Plan, Any], records: Records
) -> None:
    lost, impossible = skips(stored[1], records)
    assert (lost.owed, lost.rows, lost.reason) == (True, 6, "fit failed: ValueError: out of cheese")
    assert lost.where[0] == "decoder on none, block2, seed 1"
    assert (impossible.owed, impossible.rows, impossible.where) == (False, 6, ("rmle at query",))
    assert "needs the edge's weights" in impossible.reason


def test_rows_that_lack_something_are_marked_and_what_they_lack_is_listed(page: str) -> None:
    summary = page.split('id="summary"')[1].split("</table>")[0]
    assert summary.count("<small>incomplete</small>") == 6
    assert "decoder, seed 1: skipped (none (white-box); none (query);" in words(page)


def test_the_summary_is_read_level_by_level_with_an_interval_for_every_figure(page: str) -> None:
    summary = page.split('id="summary"')[1].split("</table>")[0]
    titles = re.findall(r'<th colspan="\d+" scope="rowgroup"><span>([^<]*)', summary)
    assert [t.split(",")[0] for t in titles] == ["white-box", "query"]
    rows = re.findall(r'<tr>\s*<th scope="row".*?</tr>', summary, re.S)
    assert len(rows) == 6
    for row in rows:
        figures = re.findall(r'<td class="num">(-?[\d.]+)[^<]*(<small>\[-?[\d.]+, -?[\d.]+\]</small>)?', row)
        assert sum(bool(interval) for _, interval in figures) >= 4  # leakage, SSIM, resolution, accuracy
        assert [value for value, interval in figures if not interval] == ["2.90"]  # multiply-adds are counted


def test_flags_are_numbered_and_every_number_leads_to_its_meaning(page: str) -> None:
    links = set(re.findall(r'href="#flag-(\d+)"', page))
    assert links
    for number in links:
        row = page.split(f'id="flag-{number}"')[1].split("</tr>")[0]
        assert len(words(row)) > 60


def test_the_page_says_what_an_attacker_has_in_words(page: str) -> None:
    assert "the attacker knows the edge&#39;s weights and has images of the same kind" in page
    assert "edge weights" not in page


def test_every_picture_says_what_it_shows_and_is_no_wider_than_the_page(page: str) -> None:
    images = re.findall(r'<img src="data:image/png;base64,[^"]*" width="(\d+)" alt="([^"]*)"', page)
    assert len(images) == page.count("<img ")
    assert all(int(width) <= 960 and len(alt) > 40 for width, alt in images)


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    assert not re.search(r'(src|href)="(?!data:|#)', page)
    assert "url(" not in page
    assert "<script" not in page


def test_the_matrix_says_how_many_seeds_failed_and_averages_nothing_over_the_rest(
    stored: tuple[Path, Plan, Any], records: Records
) -> None:
    matrix = build_matrix(stored[1], records)
    decoder = matrix[(matrix["attack"] == "decoder")]
    assert set(decoder["state"]) == {"1 of 2\nfit failed"}
    assert decoder["leakage"].isna().all()
    rmle = matrix[(matrix["attack"] == "rmle") & (matrix["knowledge"] == "query")]
    assert set(rmle["state"]) == {"skipped"}
    done = matrix[matrix["state"] == ""]
    assert ((done["leakage_lo"] <= done["leakage"]) & (done["leakage"] <= done["leakage_hi"])).all()
    assert set(matrix["control"][matrix["attack"] == "prior"]) == {True}


@pytest.mark.usefixtures("unrendered")
def test_without_images_the_page_holds_none_and_says_so(stored: tuple[Path, Plan, Any], tmp_path: Path) -> None:
    folder, plan, private = stored
    store = Store.open(folder)
    written = write_derived(tmp_path, plan, store, private, no_images=True)
    assert not [p for p in written if "reconstructions" in p.name]
    assert "kept out of this report (--no-images)" in (tmp_path / "report.html").read_text()
    tables, records = build_tables(plan, store.read)
    assert "The private images cannot be read from here" in page_of(
        plan, tables, records, [], no_images=False, outdated=0
    )


# -- the grid of pictures ---------------------------------------------------------------------------------------------


def grid(stored: tuple[Path, Plan, Any], records: Records) -> Iterator[tuple[str, list[Any]]]:
    folder, plan, private = stored
    return picture_lines(plan, records, Store.open(folder).read_artifact, PLACE, private["photos"])


def test_the_grid_shows_the_truth_first_and_the_same_images_in_every_line(
    stored: tuple[Path, Plan, Any], records: Records
) -> None:
    ((title, lines),) = grid(stored, records)
    assert title == ""
    assert [label for label, _ in lines[:3]] == ["truth", "thumbnail-8\n(from the truth)", "none\nprior"]
    assert (lines[0][1] == stored[2]["photos"][:8].permute(0, 2, 3, 1).numpy()).all()
    assert all(images.shape == (8, 32, 32, 3) for _, images in lines)
    assert sum(label.endswith("prior") for label, _ in lines) == 1  # alike for every defense


def test_a_long_grid_is_cut_into_one_per_attack_each_with_the_truth(
    stored: tuple[Path, Plan, Any], records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitaudit.report.picture_lines.MOST", 5)
    parts = list(grid(stored, records))
    assert [title for title, _ in parts] == ["prior", "rmle", "decoder"]
    assert all(lines[0][0] == "truth" for _, lines in parts)
    assert [len(lines) for _, lines in parts] == [3, 5, 5]
    assert MOST == 24


# -- at scale ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("unrendered")
def test_where_everything_failed_the_page_says_so_and_every_figure_why(tmp_path: Path) -> None:
    plan, private = store_run(tmp_path, suite(seeds=[0]), lambda node: "no memory" if node.kind == "target" else None)
    write_derived(tmp_path, plan, Store.open(tmp_path), private, no_images=False)
    page = (tmp_path / "report.html").read_text()
    assert "No cell has a leakage score: there is no finding." in page
    assert "15 skipped because something failed" in words(page)
    names = {p.stem for p in (tmp_path / "plots").iterdir()}
    assert {"heatmap-leakage", "privacy-accuracy", "edge-cost", "convergence", "reconstructions"} <= names


@pytest.mark.full
def test_a_suite_of_several_cuts_is_read_place_by_place(tmp_path: Path) -> None:
    cuts = ["block1", "block2"]
    raw = suite(backbone={"name": "cnn4", "cut": cuts, "params": {"width": 4}}, seeds=[0])
    plan, private = store_run(
        tmp_path, raw, lambda node: "no" if node.kind == "cell" and "noise" in node.title else None
    )
    store = Store.open(tmp_path)
    tables, records = build_tables(plan, store.read)
    drawn = list(draw_figures(plan, tables, records, store.read_artifact, private))
    assert {d.place for d in drawn} == {f"photos, cnn4, {cut}" for cut in cuts}
    assert len({d.name for d in drawn}) == len(drawn)
    write_derived(tmp_path, plan, store, private, no_images=False)
    page = (tmp_path / "report.html").read_text()
    for cut in cuts:
        assert f"white-box on photos, cnn4, {cut}" in page
        assert f"prior on noise, seed 0 (photos, cnn4 at {cut})" in words(page)


def test_a_missing_value_says_where_it_is_missing(tmp_path: Path) -> None:
    made_up = suite(metrics=["mse", "psnr", "accuracy"])
    plan, _ = store_run(tmp_path, made_up)
    store = Store.open(tmp_path)
    key = plan.targets[0]["key"]  # none, seed 0
    record = store.read("target", key)
    assert record is not None
    record["measurements"] = {}
    cell = next(c["key"] for c in plan.cells if c["attack"] == "rmle" and c["defense"] == "noise" and c["seed"] == 1)
    scored = store.read("cell", cell)
    assert scored is not None
    spec = plan.metrics["psnr"]
    scored["scores"]["psnr"] = {**scored["scores"]["psnr"], "values": None, "reason": "no finite value", "key": spec}
    changed = {("target", key): record, ("cell", cell): scored}
    found = dict(empty(plan, Records(plan, lambda kind, k: changed.get((kind, k)) or store.read(kind, k))))
    assert found["psnr"] == "no finite value (rmle on noise, seed 1)"


@pytest.mark.full
def test_the_findings_begin_with_the_verdicts_on_claims(tmp_path: Path) -> None:
    figure = {"column": "mse", "attack": "decoder"}
    claim = {
        "name": "error",
        "says": "The error is above that of noise.",
        "published": "above",
        "defense": "siftfunnel",
        "against": "noise",
        "at_least": 1.0,
        "figures": [figure],
    }
    plan, private = store_run(tmp_path, suite(claims=[claim]))
    write_derived(tmp_path, plan, Store.open(tmp_path), private, no_images=True)
    html = (tmp_path / "report.html").read_text()
    claims = build_tables(plan, Store.open(tmp_path).read)[0].claims
    found = words(html.split('id="found"')[1].split('id="summary"')[0])
    assert f"{claims['overall'].iloc[0].capitalize()} : The error is above that of noise." in found
    tested = words(html.split('<h2 id="claims">')[1].split("<h2")[0])
    assert "The error is above that of noise (published: above)" in tested
    assert " with siftfunnel (accuracy" in tested
    assert "; the claim needs at least 1." in tested


@pytest.mark.usefixtures("unrendered")
@pytest.mark.parametrize("metrics", [["mse"], ["ssim", "accuracy"], ["ssim"]], ids="+".join)
def test_a_suite_with_few_metrics_and_one_defense_has_its_report(metrics: list[str], tmp_path: Path) -> None:
    """Without mse there is no leakage score, and the report once ended in a KeyError."""
    raw = suite(metrics=metrics, seeds=[0], defenses=["none"], attacks=["prior", {"name": "decoder", "tune": 2}])
    plan, _ = store_run(tmp_path, raw, images=False)
    write_derived(tmp_path, plan, Store.open(tmp_path), None, no_images=True)
    html = (tmp_path / "report.html").read_text()
    assert ("there is no finding" in html) == ("mse" not in metrics)
    assert 'id="tuned"' in html
