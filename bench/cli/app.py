"""The commands and their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .. import __version__

app = typer.Typer(
    name="splitaudit",
    help="Privacy audit of split inference: defenses × attacks, with numbers that hold.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

SuiteArg = Annotated[
    str | None,
    typer.Argument(help="A YAML file or a preset (smoke, quick, standard, …: see list presets).", show_default="quick"),
]
PresetOpt = Annotated[
    str | None, typer.Option("--preset", help="A suite that comes with splitaudit: smoke, quick, … (see list presets).")
]
OutOpt = Annotated[Path | None, typer.Option("--out", "-o", help="Run folder [results/SUITE].")]
SetOpt = Annotated[
    list[str] | None, typer.Option("--set", "-s", metavar="KEY=VALUE", help="Override, e.g. -s training.epochs=5.")
]
TuneOpt = Annotated[
    int | None,
    typer.Option(
        "--tune", help="Try so many settings of each attack on auxiliary images; the best one attacks.", min=1
    ),
]
SeedOpt = Annotated[list[int] | None, typer.Option("--seed", help="Seeds instead of the suite's (repeatable).")]
DefenseOpt = Annotated[list[str] | None, typer.Option("--defense", "-d", help="Only these defenses (repeatable).")]
AttackOpt = Annotated[list[str] | None, typer.Option("--attack", "-a", help="Only these attacks (repeatable).")]
KnowledgeOpt = Annotated[
    list[str] | None, typer.Option("--knowledge", help="Only these knowledge levels (repeatable).")
]
DeviceOpt = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
DataOpt = Annotated[Path | None, typer.Option("--data-root", help="Folder with (or for) the files of datasets.")]
OfflineOpt = Annotated[bool, typer.Option("--offline", help="Never open a connection.")]
PluginOpt = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A Python file with plugins of your own (repeatable).")
]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]
JobsOpt = Annotated[int | None, typer.Option("--jobs", "-j", help="Worker processes [one per core].", min=1)]
ExecutorOpt = Annotated[
    str | None, typer.Option("--executor", help="processes or serial [processes; serial on a GPU].")
]
LimitOpt = Annotated[int | None, typer.Option("--limit", help="Run at most so many cells.", min=0)]
ForceOpt = Annotated[
    list[str] | None, typer.Option("--force", help="Do again what matches: a defense's or attack's name, * allowed.")
]
KeepOpt = Annotated[bool, typer.Option("--keep-failed", help="Do not try failed nodes again.")]
ImagesOpt = Annotated[
    bool, typer.Option("--no-images", help="Keep private pictures and reconstructions out of all that is written.")
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"splitaudit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Privacy audit of split inference: defenses × attacks, with numbers that hold."""


@app.command()
def run(
    suite: SuiteArg = None,
    preset: PresetOpt = None,
    out: OutOpt = None,
    settings: SetOpt = None,
    seed: SeedOpt = None,
    tune: TuneOpt = None,
    defense: DefenseOpt = None,
    attack: AttackOpt = None,
    knowledge: KnowledgeOpt = None,
    device: DeviceOpt = "auto",
    executor: ExecutorOpt = None,
    jobs: JobsOpt = None,
    data_root: DataOpt = None,
    offline: OfflineOpt = False,
    plugin: PluginOpt = None,
    force: ForceOpt = None,
    keep_failed: KeepOpt = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    limit: LimitOpt = None,
    no_images: ImagesOpt = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and do nothing.")] = False,
    as_json: JsonOpt = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line per job, also on a terminal.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the outcome.")] = False,
) -> None:
    """Run a suite: train targets, attack and measure them, write tables, plots and the report.

    What is already done is not done again, so an interrupted run goes on where it stopped.

    Examples: [bold]splitaudit run[/] · [bold]splitaudit run --preset smoke[/] ·
    [bold]splitaudit run mine.yaml -d noise -s training.epochs=5[/]
    """
    from .run import run_command

    source = _suite(suite, preset)
    options = _options(
        out=out, device=device, executor=executor, jobs=jobs, data_root=data_root, offline=offline, plugin=plugin,
        defense=defense, attack=attack, knowledge=knowledge, force=force, keep_failed=keep_failed, fail_fast=fail_fast,
        limit=limit, no_images=no_images,
    )  # fmt: skip
    if dry_run:
        from .plan import plan_command

        plan_command(source, settings or [], seed or [], options, tune=tune, as_json=as_json)
        return
    raise typer.Exit(
        run_command(
            source, settings or [], seed or [], options, tune=tune, as_json=as_json, verbose=verbose, quiet=quiet
        )
    )


@app.command()
def plan(
    suite: SuiteArg = None,
    preset: PresetOpt = None,
    out: OutOpt = None,
    settings: SetOpt = None,
    seed: SeedOpt = None,
    tune: TuneOpt = None,
    defense: DefenseOpt = None,
    attack: AttackOpt = None,
    knowledge: KnowledgeOpt = None,
    device: DeviceOpt = "auto",
    jobs: JobsOpt = None,
    data_root: DataOpt = None,
    offline: OfflineOpt = False,
    plugin: PluginOpt = None,
    limit: LimitOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Show the matrix: the state of each node, why something is skipped, about how long the rest takes.

    Datasets are prepared for it, and fetched where they are not there (unless --offline).
    """
    from .plan import plan_command

    options = _options(
        out=out, device=device, jobs=jobs, data_root=data_root, offline=offline, plugin=plugin, defense=defense,
        attack=attack, knowledge=knowledge, limit=limit,
    )  # fmt: skip
    plan_command(_suite(suite, preset), settings or [], seed or [], options, tune=tune, as_json=as_json)


@app.command("list")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="defenses, attacks, metrics, backbones, datasets or presets [all].")
    ] = None,
    plugin: PluginOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """List what is there: name, one line, where it comes from; broken plugins with their reason."""
    from .listing import list_command

    list_command(kind, plugin or [], as_json=as_json)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of a defense, attack, metric, backbone, dataset or preset.")],
    plugin: PluginOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Explain a plugin (what it does, parameters, source, what it requires), or print a preset's YAML."""
    from .listing import show_command

    show_command(name, plugin or [], as_json=as_json)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    data_root: DataOpt = None,
    plugin: PluginOpt = None,
    offline: OfflineOpt = False,
    no_images: ImagesOpt = False,
    as_json: JsonOpt = False,
) -> None:
    """Build the tables, plots and report.html of a run folder again from its records."""
    from .run import report_command

    options = _options(data_root=data_root, offline=offline, plugin=plugin, no_images=no_images)
    report_command(folder, options, as_json=as_json)


@app.command()
def fetch(
    what: Annotated[str, typer.Argument(help="lpips")],
    net: Annotated[str, typer.Option("--net", help="Backbone: squeeze (5 MB) or alex (240 MB).")] = "squeeze",
) -> None:
    """Download ahead what a metric needs (the weights of LPIPS's backbone)."""
    from .doctor import fetch_command

    fetch_command(what, net)


@app.command()
def doctor(plugin: PluginOpt = None, as_json: JsonOpt = False) -> None:
    """Check Python, torch, GPU, plugins and folders, and say what is wrong."""
    from .doctor import doctor_command

    raise typer.Exit(doctor_command(plugin or [], as_json=as_json))


@app.command()
def check(
    names: Annotated[list[str], typer.Argument(help="Names of defenses, attacks or metrics.")],
    plugin: PluginOpt = None,
    as_json: JsonOpt = False,
) -> None:
    """Hold plugins to their contract: the checks of splitaudit.testing."""
    from .check import check_command

    raise typer.Exit(check_command(names, plugin or [], as_json=as_json))


@app.command()
def selftest(
    measure: Annotated[str, typer.Argument(help="A measure with known-answer tests: mi (mutual information).")],
    quick: Annotated[bool, typer.Option("--quick", help="Only what takes seconds; a run does this by itself.")] = False,
    as_json: JsonOpt = False,
) -> None:
    """Try an estimator on what is known: truth, estimate, bounds, status and verdict (mi: about two minutes)."""
    from .selftest import selftest_command

    raise typer.Exit(selftest_command(measure, quick=quick, as_json=as_json))


def _suite(suite: str | None, preset: str | None) -> str:
    if suite is not None and preset is not None:
        raise typer.BadParameter(f"got both the suite '{suite}' and --preset {preset}, expected one of them")
    return suite or preset or "quick"


def _options(**given: object):
    from ..api import Options

    filters = {name: given.pop(name, None) or [] for name in ("defense", "attack", "knowledge")}
    plugins = tuple(str(p) for p in (given.pop("plugin", None) or []))  # type: ignore[union-attr]
    force = tuple(given.pop("force", None) or ())  # type: ignore[arg-type]
    images = not given.pop("no_images", False)
    return Options(plugins=plugins, filters=filters, force=force, images=images, **given)  # type: ignore[arg-type]
