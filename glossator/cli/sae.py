"""`sae train` and `sae report`: a sparse coder made, and how good one is."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from glossator.cli.interrupts import INTERRUPTED
from glossator.cli.progress import shown_progress
from glossator.cli.session import Session
from glossator.config import parse_tokens
from glossator.errors import ConfigError

if TYPE_CHECKING:
    from glossator.datasets.corpora import Corpus
    from glossator.progress import Progress
    from glossator.sae import SparseCoder
    from glossator.sae.quality import CoderReport
    from glossator.subject import Subject

sae_app = typer.Typer(
    name="sae",
    help="Sparse coders: train one, or find out how good one is.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_Model = Annotated[
    str | None,
    typer.Option(help="Subject: a bundled name, hub id, folder or gguf:PATH (smollm2-135m)."),
]
_CorpusName = Annotated[
    str | None, typer.Option(help="Text: default, a file or folder, hf:NAME (default).")
]
_Ctx = Annotated[int | None, typer.Option(help="Tokens the subject reads at a time (128).")]
_Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or mps (auto).")]
_Dtype = Annotated[str | None, typer.Option(help="Number type the subject computes in (auto).")]
_Offline = Annotated[bool | None, typer.Option("--offline/--online", help="Never try the network.")]


@sae_app.command("train")
def train_command(
    context: typer.Context,
    site: Annotated[str, typer.Option(help="Where to read, such as layers.14.resid_post.")],
    out: Annotated[Path, typer.Option(help="Folder for the coder; work is kept there, too.")],
    latents: Annotated[int, typer.Option(help="How many latents.")] = 4608,
    k: Annotated[int, typer.Option("--k", help="Latents that fire at a token, on average.")] = 32,
    architecture: Annotated[
        Literal["batchtopk", "jumprelu"], typer.Option(help="How latents are kept in training.")
    ] = "batchtopk",
    tokens: Annotated[str, typer.Option(help="Tokens of the train pool to read.")] = "2M",
    epochs: Annotated[int, typer.Option(help="How often each token is learned from.")] = 3,
    batch: Annotated[int, typer.Option(help="Tokens a step.")] = 2048,
    lr: Annotated[float, typer.Option(help="Highest learning rate.")] = 1e-3,
    keep_activations: Annotated[
        bool, typer.Option("--keep-activations", help="Leave the activations in OUT/training.")
    ] = False,
    model: _Model = None,
    corpus: _CorpusName = None,
    ctx: _Ctx = None,
    device: _Device = None,
    dtype: _Dtype = None,
    offline: _Offline = None,
) -> int:
    """Train a sparse coder of one site, and save it in the layout of SAELens.

    The same command goes on where it was stopped. The disk takes two bytes for each number read:
    2M tokens of width 576 are 2.3 GB, gone when the coder is done. --json prints one document:
    folder, weights, digest, and what the coder's file says of its making.
    """
    from glossator.sae.saving import WEIGHTS_FILE
    from glossator.sae.training import TrainSettings, train
    from glossator.sae.training_activations import ReadSettings
    from glossator.sae.training_step import StepSettings

    session = Session.of(context)
    common = _common(session, model, corpus, ctx, device, dtype, offline)
    seed = int(session.options.get("seed", 0))
    settings = TrainSettings(
        read=ReadSettings(site=site, tokens=parse_tokens(tokens), ctx=common["ctx"], seed=seed),
        step=StepSettings(latents=latents, k=k, architecture=architecture, lr=lr),
        epochs=epochs,
        batch=batch,
        seed=seed,
    )
    try:
        with shown_progress(session.quiet) as show:
            subject, text = _loaded(common)
            coder = train(
                subject,
                text,
                settings,
                out,
                command=_typed(context, session),
                keep_activations=keep_activations,
                on_progress=_reporter(show),
            )
    except KeyboardInterrupt:
        session.say("Stopped. What was done is kept; the same command goes on from here.")
        return INTERRUPTED
    made = dict(coder.metadata)
    if session.as_json:
        session.print_json(
            {
                "folder": str(out),
                "weights": str(out / WEIGHTS_FILE),
                "digest": coder.digest,
                "made": made,
            }
        )
    else:
        session.console().print(str(out), soft_wrap=True)
        session.say(
            f"{coder.d_sae:,} latents of {site}: on its last train tokens FVU "
            f"{made['train_fvu']:.3f} at L0 {made['train_l0']:.1f}. On held-out text: "
            f"glossator sae report {shlex.quote(str(out))}"
        )
    return 0


@sae_app.command("report")
def report_command(
    context: typer.Context,
    coder: Annotated[str, typer.Argument(help="default, a folder or file, sae_lens:RELEASE/ID.")],
    site: Annotated[
        str | None, typer.Option(help="What it reads (default: as its file says).")
    ] = None,
    pool: Annotated[
        list[str] | None, typer.Option(help="dev, test or train; repeatable (dev).")
    ] = None,
    tokens: Annotated[str, typer.Option(help="Tokens of each pool to measure on.")] = "100k",
    loss_tokens: Annotated[
        str, typer.Option(help="Predictions to measure the loss on; 0 leaves it out.")
    ] = "10k",
    model: _Model = None,
    corpus: _CorpusName = None,
    ctx: _Ctx = None,
    device: _Device = None,
    dtype: _Dtype = None,
    offline: _Offline = None,
) -> int:
    """Measure how well a sparse coder stands for the activations of its site.

    --json prints one document: command, versions, coder (what its file says of its making),
    reports (one for each pool).
    """
    from glossator.sae import load_coder
    from glossator.sae.quality import quality
    from glossator.sae.training import versions
    from glossator.types import Pool

    session = Session.of(context)
    common = _common(session, model, corpus, ctx, device, dtype, offline)
    pools = []
    for name in pool or ["dev"]:
        if name not in set(Pool):
            raise ConfigError(f"no pool is called {name!r}; there are: {', '.join(Pool)}")
        pools.append(Pool(name))
    n_loss = 0 if loss_tokens.strip() == "0" else parse_tokens(loss_tokens)
    loaded: SparseCoder = load_coder(coder, offline=common["offline"])
    where = site or loaded.site
    if where is None:
        raise ConfigError(f"{coder} does not say which site it reads; name it with --site")
    with shown_progress(session.quiet) as show:
        subject, text = _loaded(common)
        report = _reporter(show)
        reports = [
            quality(
                subject,
                loaded,
                where,
                text,
                pool=pool_read,
                tokens=parse_tokens(tokens),
                loss_tokens=n_loss,
                ctx=common["ctx"],
                seed=int(session.options.get("seed", 0)),
                on_progress=lambda stage, done, total: report(stage, done, total, ""),
            )
            for pool_read in pools
        ]
    if session.as_json:
        session.print_json(
            {
                "command": _typed(context, session),
                "versions": versions(),
                "coder": dict(loaded.metadata),
                "reports": [report.to_json() for report in reports],
            }
        )
        return 0
    for found in reports:
        for line in report_lines(found):
            session.console().print(line, soft_wrap=True)
    for found in reports:
        for warning in found.warnings:
            session.say(f"Warning: {warning}")
    return 0


def report_lines(report: CoderReport) -> list[str]:
    """The report for people."""
    spread = ", ".join(f"{q}: {n}" for q, n in report.l0_quantiles.items())
    fvu = "undefined" if report.fvu is None else f"{report.fvu:.4f}"
    lines = [
        f"{report.coder} at {report.site} of {report.subject}, {report.pool} pool of "
        f"{report.corpus}, {report.tokens:,} tokens",
        f"  variance unexplained  {fvu}",
        f"  cosine                {report.cosine:.4f}",
        f"  L0                    {report.l0:.1f} (quantiles {spread})",
        f"  dead latents          {report.n_dead:,} of {report.d_sae:,} "
        f"({100 * report.dead_share:.2f}%)",
    ]
    if report.losses is not None:
        losses = report.losses
        lines += [
            f"  loss recovered        {_share(losses.recovered_zero)} against zero ablation, "
            f"{_share(losses.recovered_mean)} against mean ablation",
            f"  cross-entropy         {losses.clean:.4f} clean, {losses.spliced:.4f} spliced, "
            f"{losses.zero_ablated:.4f} zero, {losses.mean_ablated:.4f} mean "
            f"({losses.tokens:,} predictions)",
            f"  KL                    {losses.kl:.4f}",
        ]
    return lines


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _common(
    session: Session,
    model: str | None,
    corpus: str | None,
    ctx: int | None,
    device: str | None,
    dtype: str | None,
    offline: bool | None,
) -> dict[str, Any]:
    """Options that both commands have: the command line's, else the config file's, else ours."""
    ours = {
        "model": "smollm2-135m",
        "corpus": "default",
        "ctx": 128,
        "device": "auto",
        "dtype": "auto",
        "offline": False,
    }
    given = {
        "model": model,
        "corpus": corpus,
        "ctx": ctx,
        "device": device,
        "dtype": dtype,
        "offline": offline,
    }
    file = {name: value for name, value in session.options.items() if name in ours}
    return {**ours, **file, **{name: value for name, value in given.items() if value is not None}}


def _loaded(common: Mapping[str, Any]) -> tuple[Subject, Corpus]:
    from glossator.datasets.corpora import load_corpus
    from glossator.subject import load_subject

    subject = load_subject(
        common["model"], common["device"], common["dtype"], offline=common["offline"]
    )
    return subject, load_corpus(common["corpus"], offline=common["offline"])


def _reporter(show: Callable[[Progress], None] | None) -> Callable[[str, int, int, str], None]:
    from glossator.progress import Progress as Step

    def report(stage: str, done: int, total: int, note: str) -> None:
        if show is not None:
            show(Step(stage, done, total, note=note))

    return report


def _typed(context: typer.Context, session: Session) -> str:
    """The command as one would type it, defaults spelt out, since those may change."""
    words = ["glossator", "sae", str(context.info_name)]
    for parameter in context.command.params:
        value = context.params.get(str(parameter.name))
        if parameter.param_type_name == "argument":
            words.append(str(value))
        elif isinstance(value, bool):
            if value != parameter.default:
                words.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            items = value if isinstance(value, list | tuple) else [value]
            for item in items:
                if item is not None:
                    words += [parameter.opts[0], str(item)]
    if "seed" in session.options:
        words += ["--seed", str(session.options["seed"])]
    return shlex.join(words)
