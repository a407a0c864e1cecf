"""The command line without a run: what it prints where, and with which exit code it ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import splitaudit
from splitaudit.cli import main
from splitaudit.config import load_suite
from splitaudit.plugins import DEFENSES
from splitaudit.registry import Entry

if TYPE_CHECKING:
    from conftest import Called

    Call = Callable[..., Called]
else:
    Call = Callable

COMMANDS = ("run", "plan", "list", "show", "report", "fetch", "doctor", "check")


@pytest.fixture
def written(tiny: dict[str, Any], tmp_path: Path, images: Path) -> tuple[str, ...]:
    """The arguments of a suite in a file."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    return str(path), "--data-root", str(images), "--out", str(tmp_path / "out"), "--device", "cpu", "--offline"


# -- usage ------------------------------------------------------------------------------------------------------------


def test_the_version_is_printed_alone(call: Call) -> None:
    called = call("--version")
    assert (called.code, called.out, called.err) == (0, f"splitaudit {splitaudit.__version__}\n", "")


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_names_every_command(call: Call, flag: str) -> None:
    called = call(flag)
    assert called.code == 0
    assert all(f" {name} " in called.out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(call: Call, command: str) -> None:
    called = call(command, "-h")
    assert called.code == 0
    assert "Usage: splitaudit " + command in called.out


USAGE = [
    (("rnu",), "No such command 'rnu'"),
    (("run", "--sead", "1"), "No such option: --sead"),
    (("run", "--seed", "abc"), "Invalid value for '--seed'"),
    (("run", "--limit", "-1"), "Invalid value for '--limit'"),
    (("run", "--jobs", "0"), "Invalid value for"),
    (("plan", "a.yaml", "b.yaml"), "unexpected extra argument"),
    (("plan", "a.yaml", "--preset", "smoke"), "got both the suite"),
    (("plan", "--preset", "smok"), "'smok' is neither a file nor a preset. Did you mean 'smoke'?"),
    (("plan", "missing.yaml"), "'missing.yaml' is neither a file nor a preset."),
    (("plan", "smoke", "--device", "gpu"), "--device gpu: expected auto, cpu, cuda or cuda:N"),
    (("run", "smoke", "--executor", "ray9"), "--executor ray9: expected"),
    (("show",), "Missing argument"),
    (("show", "nois"), "nothing is called 'nois'. Did you mean 'noise'?"),
    (("list", "defences"), "expected one of defenses, attacks, metrics"),
    (("fetch", "lpip"), "fetch lpip: expected lpips"),
    (("fetch", "lpips", "--net", "vgg"), "--net vgg: expected squeeze or alex"),
    (("report", "missing"), "missing: holds no results, expected a folder that 'splitaudit run' wrote."),
    (("list", "--plugin", "missing.py"), "missing.py: no such file"),
]


@pytest.mark.parametrize(("argv", "expected"), USAGE, ids=[" ".join(a) for a, _ in USAGE])
def test_a_mistake_on_the_command_line_is_told_on_stderr_with_exit_code_2(
    call: Call, argv: tuple[str, ...], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    called = call(*argv)
    assert (called.code, called.out) == (2, "")
    assert expected in " ".join(called.err.replace("│", " ").split())
    assert "Traceback" not in called.err
    assert not list(tmp_path.iterdir())


def test_show_prints_the_yaml_of_a_preset_which_is_a_suite(call: Call, tmp_path: Path) -> None:
    called = call("show", "siftfunnel-claims")
    assert called.code == 0
    (tmp_path / "mine.yaml").write_text(called.out)
    assert [c.name for c in load_suite(tmp_path / "mine.yaml").claims][:2] == ["error", "information"]
    assert json.loads(call("show", "smoke", "--json").out)["kind"] == "preset"
    assert "Did you mean 'siftfunnel-claims'?" in call("show", "siftfunnel-claim").err


def test_the_mistakes_of_a_suite_come_in_one_message_without_a_traceback(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        "dataset: photos\nbackbone: {name: cnn4, cut: block9}\n"
        "defenses: [noize, {name: noise, params: {sigma: -1}}, {name: dropout, params: {rat: 0.1}}]\n"
        "attacks: []\ntraining: {epochs: many}\n"
    )
    for command in ("run", "plan"):
        called = call(command, path, "--out", tmp_path / "out")
        assert (called.code, called.out) == (2, "")
        assert called.err.startswith(f"splitaudit: {path}: 6 problems\n")
        for expected in ("'noize'", "sigma: got -1", "'rate'", "cut 'block9'", "attacks: got an empty", "got 'many'"):
            assert called.err.count(expected) == 1, expected
        assert "Traceback" not in called.err
    assert not (tmp_path / "out").exists()


def test_what_the_machine_refuses_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], call: Call
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device", "results/x")

    monkeypatch.setattr("splitaudit.api.report", full)
    called = call("report", "x")
    assert called.code == 2
    assert called.err.startswith("splitaudit: [Errno 28] No space left on device: 'results/x'.")


def test_ctrl_c_ends_with_130_wherever_it_comes(monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("splitaudit.api.report", interrupted)
    called = call("report", "x")
    assert (called.code, called.err) == (130, "splitaudit: interrupted\n")


# -- list, show, doctor, fetch ----------------------------------------------------------------------------------------


def test_list_shows_every_kind_with_a_line_and_an_origin(call: Call) -> None:
    called = call("list")
    assert (called.code, called.err) == (0, "")
    for expected in ("defenses", "siftfunnel", "rmle", "lpips", "photos", "cnn4", "quick", "built-in"):
        assert expected in called.out
    assert "BROKEN" not in called.out


def test_list_as_json_is_json_alone(call: Call) -> None:
    everything = json.loads(call("list", "--json").out)
    assert {"defenses", "attacks", "metrics", "datasets", "backbones", "presets"} <= set(everything)
    attacks = json.loads(call("list", "attack", "--json").out)
    assert attacks == everything["attacks"]
    assert {"rmle", "prior", "decoder"} <= {a["name"] for a in attacks}
    assert all(a["summary"] and a["origin"].startswith("built-in") and a["error"] is None for a in attacks)


def test_show_tells_parameters_source_and_what_an_attack_requires(call: Call) -> None:
    called = call("show", "rmle")
    assert called.code == 0
    for expected in ("attack rmle, version", "rmle.py:", "requires: edge=weights", "parameters", "steps", "source: "):
        assert expected in called.out, expected
    facts = json.loads(call("show", "noise", "--json").out)
    assert facts["kind"] == "defense"
    assert {p["name"] for p in facts["parameters"]} >= {"sigma", "distribution", "relative"}
    assert all(p["meaning"] for p in facts["parameters"])


def test_show_of_a_backbone_names_its_cuts(call: Call) -> None:
    assert "cuts: block1, block2, block3, block4" in call("show", "cnn4").out


def test_doctor_names_python_torch_folders_and_plugins(call: Call, tmp_path: Path) -> None:
    called = call("doctor", "--json")
    rows = {r["what"]: r for r in json.loads(called.out)}
    assert {"Python", "torch", "torchvision", "cores", "defenses", "LPIPS weights", "results folder"} <= set(rows)
    assert called.code == (1 if any(r["state"] == "problem" for r in rows.values()) else 0)
    assert "Python: " in call("doctor").out


def test_doctor_ends_with_exit_code_1_and_what_to_do_where_a_plugin_is_broken(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load() -> type:
        raise OSError("no such drive")

    DEFENSES.discover()
    bad = Entry[Any]("acme/bad", "acme-splits 1.2 (acme_bad:Bad)", load)
    monkeypatch.setattr(DEFENSES, "_entries", {**DEFENSES._entries, "acme/bad": bad})
    called = call("doctor")
    assert called.code == 1
    expected = "problem  defense 'acme/bad': OSError: no such drive  -> mend or uninstall it (from acme-splits 1.2"
    assert expected in called.out
    listed = call("list", "defenses")
    assert listed.code == 0
    assert "BROKEN: OSError: no such drive" in listed.out


def test_fetch_without_a_connection_fails_with_what_to_do(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def no_host(url: str, timeout: float) -> None:
        asked[url] = timeout
        raise OSError("Name or service not known")

    monkeypatch.setattr("splitaudit.metrics._lpips_weights.weights_file", lambda net: Path(os.devnull, net))
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (os.open(os.devnull, os.O_WRONLY), os.devnull + "-x"))
    monkeypatch.setattr("urllib.request.urlopen", no_host)
    called = call("fetch", "lpips")
    assert (called.code, called.out) == (2, "")
    assert "could not fetch https://download.pytorch.org/models/squeezenet" in called.err
    assert "Get https://" in called.err
    assert "elsewhere and put it at" in called.err
    assert list(asked.values()) == [10.0]  # seconds


def test_fetch_says_where_the_weights_are(call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = tmp_path / "weights.pth"
    there.touch()
    monkeypatch.setattr("splitaudit.metrics._lpips_weights.weights_file", lambda net: there)
    called = call("fetch", "lpips", "--net", "alex")
    assert (called.code, called.out) == (0, f"LPIPS weights: {there}\n")


# -- plan -------------------------------------------------------------------------------------------------------------


def test_plan_shows_the_matrix_and_why_something_is_skipped(call: Call, written: tuple[str, ...]) -> None:
    called = call("plan", *written)
    assert called.code == 0
    lines = [[part.strip() for part in line.split("│")[1:-1]] for line in called.out.splitlines() if "│" in line]
    # Two targets at white-box and query; rmle cannot be at query.
    assert ["none", "1 to do", "2 to do", "1 to do, 1 skipped"] in lines
    assert ["noise", "1 to do", "2 to do", "1 to do, 1 skipped"] in lines
    assert ["prior", "2 to do", "2 to do"] in lines
    assert ["rmle", "2 to do", "2 skipped"] in lines
    assert "jobs to do on cpu" in called.out
    assert "skipped: rmle at query: attack 'rmle' needs the edge's weights" in called.out
    assert not Path(written[4]).exists()


def test_plan_and_dry_run_as_json_say_the_same_and_do_nothing(call: Call, written: tuple[str, ...]) -> None:
    planned = call("plan", *written, "--json")
    dry = call("run", *written, "--dry-run", "--json", "--no-images", "--fail-fast")
    assert (planned.code, planned.err, planned.out) == (dry.code, dry.err, dry.out)
    told = json.loads(planned.out)
    assert {r["state"] for r in told["targets"]} == {"to do"}
    assert [r["state"] for r in told["cells"] if r["attack"] == "rmle" and r["knowledge"] == "query"] == ["skipped"] * 2
    assert told["jobs"] > 0
    assert not Path(written[4]).exists()


def test_tune_reaches_the_attacks_that_have_anything_to_try_in_plan_and_run(
    call: Call, written: tuple[str, ...]
) -> None:
    for command in (("plan",), ("run", "--dry-run")):
        told = json.loads(call(*command, *written, "--tune", "3", "--json").out)
        names = {r["attack"] for r in told["cells"]}
        assert {"prior", "rmle@tune3"} <= names
        assert "rmle" not in names


def test_a_preset_is_named_alone_or_by_its_option(call: Call, tmp_path: Path) -> None:
    shared = ("--out", tmp_path / "out", "--device", "cpu", "--offline", "--json", "-s", "metrics=[mse]")
    told = call("plan", "--preset", "smoke", *shared)
    assert (told.code, json.loads(told.out)["suite"]) == (0, "smoke")
    assert told.out == call("plan", "smoke", *shared).out


FILTERS: list[tuple[tuple[str, ...], set[tuple[str, str, str]]]] = [
    (("-d", "noise", "-a", "prior"), {("noise", "prior", "white-box"), ("noise", "prior", "query")}),
    (("-a", "rmle", "--knowledge", "white-box"), {("none", "rmle", "white-box"), ("noise", "rmle", "white-box")}),
    (("-d", "none", "-d", "noise", "-a", "rmle"), {("none", "rmle", "white-box"), ("noise", "rmle", "white-box")}),
    (("--limit", "1"), {("none", "prior", "white-box"), ("none", "prior", "query")}),  # one cell, two rows
    (("--limit", "0"), set()),
]


@pytest.mark.parametrize(("argv", "expected"), FILTERS, ids=[" ".join(a) for a, _ in FILTERS])
def test_filters_leave_the_other_cells_out(
    call: Call, written: tuple[str, ...], argv: tuple[str, ...], expected: set[tuple[str, str, str]]
) -> None:
    told = json.loads(call("plan", *written, *argv, "--json").out)
    assert {(r["defense"], r["attack"], r["knowledge"]) for r in told["cells"] if r["state"] == "to do"} == expected


def test_seeds_and_overrides_given_on_the_command_line_come_before_the_file(
    call: Call, written: tuple[str, ...]
) -> None:
    argv = ("--seed", "3", "--seed", "4", "-s", "defenses=[{name: noise, params: {sigma: [0.5, 1]}}]")
    told = json.loads(call("plan", *written, *argv, "--json").out)
    assert {(r["defense"], r["seed"]) for r in told["targets"]} == {
        (f"noise(sigma={s})", seed) for s in ("0.5", "1") for seed in (3, 4)
    }


NOTHING = [
    (("-d", "nois"), "--defense nois: the suite 'tiny' has no such defense. Did you mean 'noise'? It has none, noise."),
    (("-d", "noise(sigma=9)"), "--defense noise(sigma=9): the suite 'tiny' has no such defense."),
    (("-a", "decoder"), "--attack decoder: the suite 'tiny' has no such attack. It has prior, rmle."),
    (("-a", "decoder"), "--attack only selects from those. To have it in the suite: -s 'attacks=[prior, decoder]'."),
    (("-d", "vib+noise"), "To have it in the suite: -s 'defenses=[none, vib+noise]'."),
    (("--knowledge", "query-free"), "--knowledge query-free: the suite 'tiny' has no such knowledge."),
    (("--knowledge", "query:4"), "To have it in the suite: -s 'knowledge=[white-box, query:4]'."),
    (("--force", "nois"), "--force nois: matches no defense or attack. Did you mean 'noise'?"),
]


@pytest.mark.parametrize(("argv", "expected"), NOTHING, ids=[" ".join(a) for a, _ in NOTHING])
def test_a_filter_that_would_silently_do_nothing_is_a_mistake(
    call: Call, written: tuple[str, ...], argv: tuple[str, ...], expected: str
) -> None:
    called = call("run", *written, "--dry-run", *argv) if "--force" not in argv else call("run", *written, *argv)
    assert (called.code, called.out) == (2, "")
    assert expected in called.err


def test_what_the_figures_will_lack_is_told_before_the_work(call: Call, written: tuple[str, ...]) -> None:
    plain = json.loads(call("plan", *written, "-s", "metrics=[mse, accuracy]", "--json").out)["cautions"]
    assert [c.split(" private image")[0].split(": ")[1] for c in plain] == ["only 8"]
    few = call("plan", *written, "-s", "metrics=[accuracy]", "-d", "noise").out
    assert "note: No leakage score will be given: it needs the metric mse" in few
    assert "Nothing will be compared with the undefended network, and no drop of accuracy known: add -d none" in few
    call("run", *written, "-s", "metrics=[mse, accuracy]", "-d", "none", "-a", "prior")
    later = call("plan", *written, "-s", "metrics=[mse, accuracy]", "-d", "noise").out
    assert "Nothing will be compared" not in later  # none is stored, and in the tables
    assert "What a defense costs will not be known" in call("plan", *written, "-s", "metrics=[mse]").out
    assert "Note: No leakage score" in call("run", *written, "-s", "metrics=[accuracy]", "--limit", "1").err


def test_a_filter_by_registry_name_means_every_variant_of_it(call: Call, written: tuple[str, ...]) -> None:
    change = "defenses=[none, {name: noise, when: infer}, {name: noise, params: {sigma: [0.5, 1]}}]"
    told = json.loads(call("plan", *written, "-s", change, "-d", "noise", "--json").out)
    state = {r["defense"]: r["state"] for r in told["targets"]}
    chosen = {d for d, s in state.items() if s == "to do"}
    assert chosen == {d for d in state if d.startswith("noise")} | {"none"}  # whose weights noise@infer reuses
    assert len(chosen) == 4


def test_a_dataset_that_cannot_be_used_is_told_before_anything_runs(call: Call, written: tuple[str, ...]) -> None:
    argv = [*written[:2], str(Path(written[2]) / "nowhere"), *written[3:]]
    called = call("run", *argv)
    assert (called.code, called.out) == (2, "")
    assert "nowhere" in called.err
    assert not list(Path(written[4]).rglob("*.json"))


# -- streams and start ------------------------------------------------------------------------------------------------


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys\nsys.argv = ['splitaudit', 'run', '--help']\nfrom splitaudit.cli import main\n"
        "try:\n    main()\nfinally:\n    print([m for m in ('torch', 'pandas', 'matplotlib') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "[]"), done.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a POSIX pipe")
@pytest.mark.parametrize(
    "argv",
    [("--help",), ("--version",), pytest.param(("list",), marks=pytest.mark.full)],
    ids=" ".join,
)
def test_a_reader_that_has_left_is_no_error(argv: tuple[str, ...]) -> None:
    reads, writes = os.pipe()
    os.close(reads)
    command = [sys.executable, "-m", "splitaudit", *argv]
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writes)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_console_script_is_main() -> None:
    from importlib.metadata import entry_points

    found = [e for e in entry_points(group="console_scripts") if e.name == "splitaudit"]
    assert [e.load() for e in found] == [main]
