"""Directions: what is learned is what was planted, chance is called chance, files are checked."""

from __future__ import annotations

import json
import math
import pickle
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from glossator.cli.direction import direction_app
from glossator.cli.session import Session
from glossator.datasets.directions import (
    Direction,
    Method,
    Projector,
    direction_names,
    learn_direction,
    load_direction,
    projector,
    save_direction,
)
from glossator.errors import AssetError, ConfigError, StoreError
from glossator.subject import Subject, intervening, load_subject
from glossator.types import FeatureId
from tests.tiny_llama import WORDS, save_tiny_llama, some_texts

SITE = "layers.0.resid_post"
METHODS: tuple[Method, ...] = ("difference", "logistic", "pca")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def subject(folder: Path) -> Subject:
    return load_subject(str(folder), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [f"{WORDS[i % 7]} {text}" for i, text in enumerate(some_texts(80, longest=20, seed=5))]


def unit(seed: int, d: int = 16) -> torch.Tensor:
    vector = torch.randn(d, generator=torch.Generator().manual_seed(seed))
    found: torch.Tensor = vector / vector.norm()
    return found


@contextmanager
def shifted(subject: Subject, texts: Sequence[str], shift: torch.Tensor) -> Iterator[None]:
    """While the block runs, the residual of these texts, and of no others, is moved by `shift`."""
    encoded = subject.tokenizer(list(texts), add_special_tokens=False)["input_ids"]
    chosen = {tuple(ids) for ids in encoded}
    start = subject.start_token_id
    seen: list[bool] = []

    def remember(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        rows = kwargs["input_ids"][:, 1:].tolist()
        seen[:] = [tuple(token for token in row if token != start) in chosen for row in rows]

    def edit(acts: torch.Tensor) -> torch.Tensor:
        return acts + torch.tensor(seen)[:, None, None] * shift

    handle = subject.model.base_model.register_forward_pre_hook(remember, with_kwargs=True)
    try:
        with intervening(subject, SITE, edit):
            yield
    finally:
        handle.remove()


@pytest.mark.parametrize("at", ["last", "mean", "max"])
@pytest.mark.parametrize("method", METHODS)
def test_a_planted_direction_is_found_and_points_at_the_positive_texts(
    subject: Subject, texts: list[str], method: Method, at: Any
) -> None:
    planted = unit(1)
    with shifted(subject, texts[:40], 25 * planted):
        found = learn_direction(
            subject, SITE, texts[:40], texts[40:], method, name="planted", at=at, n_null=19
        )
    # a regression is bent towards coordinates of little variance, so it is held to less
    wanted = 0.8 if method == "logistic" else 0.9
    assert float(found.vector @ planted) > wanted
    how = found.how
    assert how["auc"] == pytest.approx(1.0)
    assert how["auc_p"] == pytest.approx(0.05)
    assert abs(float(str(how["auc_null"])) - 0.5) < 0.15
    assert float(str(how["mean_positive"])) > float(str(how["mean_negative"])) + 10
    assert "warning" not in how


@pytest.mark.parametrize("method", METHODS)
def test_turned_round_texts_give_the_vector_turned_round(
    subject: Subject, texts: list[str], method: Method
) -> None:
    with shifted(subject, texts[:30], 10 * unit(2)):
        there = learn_direction(subject, SITE, texts[:30], texts[30:], method, name="a", n_null=19)
        back = learn_direction(subject, SITE, texts[30:], texts[:30], method, name="a", n_null=19)
    assert torch.allclose(there.vector, -back.vector, atol=1e-4)


def test_the_difference_is_that_of_the_means_by_hand(subject: Subject) -> None:
    positive, negative = ["the river King", "Paris"], ["war of", "old bridge sailed"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = learn_direction(subject, SITE, positive, negative, name="x", at="last", batch=1)
    last = []
    for text in positive + negative:
        ids = subject.tokenizer(text, add_special_tokens=False)["input_ids"]
        last.append(subject.read([ids], SITE)[SITE][0, -1])
    by_hand = (last[0] + last[1] - last[2] - last[3]) / 2
    assert torch.allclose(found.vector, by_hand / by_hand.norm(), atol=1e-5)


def test_pairs_cancel_what_both_texts_of_a_pair_share(subject: Subject, texts: list[str]) -> None:
    """A nuisance four times as strong, the same within a pair, misleads pca without pairs."""
    planted, nuisance = unit(3), unit(4)
    nuisance = nuisance - (nuisance @ planted) * planted
    positive = [f"{text} the" for text in texts[:30]]
    negative = [f"{text} old" for text in texts[:30]]
    with (
        shifted(subject, positive, 10 * planted),
        shifted(subject, positive[:15] + negative[:15], 40 * nuisance),
    ):
        with pytest.warns(UserWarning, match="at chance"):
            alone = learn_direction(subject, SITE, positive, negative, "pca", name="a", n_null=19)
        paired = learn_direction(
            subject, SITE, positive, negative, "pca", name="a", paired=True, n_null=19
        )
    assert abs(float(alone.vector @ planted)) < 0.3
    assert float(paired.vector @ planted) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_a_random_split_is_at_chance_and_warned_about(
    subject: Subject, texts: list[str], method: Method
) -> None:
    with pytest.warns(UserWarning, match="at chance on held-out texts"):
        found = learn_direction(subject, SITE, texts[::2], texts[1::2], method, name="noise")
    assert abs(float(str(found.how["auc"])) - 0.5) < 0.2
    assert float(str(found.how["auc_p"])) > 0.05
    assert "at chance" in str(found.how["warning"])


def test_one_text_a_side_gives_a_direction_and_says_that_nobody_knows(subject: Subject) -> None:
    with pytest.warns(UserWarning, match="too few texts"):
        found = learn_direction(subject, SITE, ["the river"], ["old King"], name="pair")
    assert found.how["auc"] is None


def test_the_same_call_gives_the_same_and_batches_change_nothing(
    subject: Subject, texts: list[str]
) -> None:
    with shifted(subject, texts[:30], 10 * unit(2)):
        calls = [
            learn_direction(
                subject, SITE, texts[:30], texts[30:60], name="a", batch=batch, seed=3, n_null=19
            )
            for batch in (32, 32, 5)
        ]
    assert torch.equal(calls[0].vector, calls[1].vector)
    assert calls[0].how == calls[1].how
    assert torch.allclose(calls[0].vector, calls[2].vector, atol=1e-5)


def test_special_tokens_do_not_count_and_long_texts_are_cut(subject: Subject) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = learn_direction(subject, SITE, ["the river"], ["old King"], name="a", at="last")
        marked = learn_direction(
            subject, SITE, ["the river<|endoftext|>"], ["old King"], name="a", at="last"
        )
        long = learn_direction(
            subject, SITE, ["the river " * 400], ["old King"], name="a", ctx=5000
        )
    assert torch.allclose(plain.vector, marked.vector, atol=1e-5)
    assert long.how["n_cut"] == 1


def test_a_direction_is_a_feature_whose_id_parses() -> None:
    feature = Direction("my.dir-1", SITE, unit(0)).feature("org/model")
    assert str(feature) == f"org/model//{SITE}@direction:my.dir-1/0"
    assert FeatureId.parse(str(feature)) == feature
    assert FeatureId.parse(f"{feature}-").negative


def test_a_projector_reads_like_a_coder_with_one_latent(subject: Subject) -> None:
    direction = Direction("d", SITE, 3 * unit(0))
    coder = projector(direction)
    acts = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1))
    found = coder.encode(acts)
    assert found.shape == (2, 5, 1)
    assert torch.allclose(found[..., 0], (acts * unit(0)).sum(dim=-1), atol=1e-5)
    assert (coder.name, coder.d_in, coder.d_sae) == ("direction:d", 16, 1)
    assert coder.encode(acts.bfloat16()).dtype is torch.float32
    assert torch.equal(coder.encode(acts, [0]), found)
    assert torch.equal(coder.encode(acts, slice(0, 1)), found)
    assert torch.allclose(coder.encode(coder.W_dec), torch.ones(1, 1), atol=1e-6)
    with pytest.raises(ConfigError, match=r"16 wide .* width 24"):
        coder.encode(torch.zeros(2, 24))
    assert isinstance(coder, Projector)


def test_saving_and_loading_gives_the_same(tmp_path: Path) -> None:
    direction = Direction("d", SITE, unit(0), {"method": "by hand", "auc": None})
    path = save_direction(direction, tmp_path / "new")
    found = load_direction("d", tmp_path / "new", site=SITE, width=16)
    assert torch.equal(found.vector, direction.vector)
    assert (found.name, found.site, dict(found.how)) == ("d", SITE, dict(direction.how))
    assert direction_names(tmp_path / "new") == ["d"]
    assert path.name == "d.safetensors"
    with pytest.raises(ConfigError, match="replace"):
        save_direction(direction, tmp_path / "new")
    save_direction(Direction("d", SITE, unit(1)), tmp_path / "new", replace=True)
    assert torch.equal(load_direction("d", tmp_path / "new").vector, unit(1))
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["d.safetensors"]
    assert direction_names(tmp_path / "nothing") == []


def test_what_does_not_fit_is_refused_with_both_numbers(tmp_path: Path) -> None:
    save_direction(Direction("d", SITE, unit(0)), tmp_path)
    with pytest.raises(ConfigError, match=r"16 wide, .* is 24 wide"):
        load_direction("d", tmp_path, width=24)
    with pytest.raises(ConfigError, match=r"one of layers\.0\.resid_post, not of layers\.1"):
        load_direction("d", tmp_path, site="layers.1.resid_post")
    with pytest.raises(ConfigError, match=r"no direction is called 'e'.*there are: d"):
        load_direction("e", tmp_path)


@pytest.mark.parametrize("name", ["", "../d", "a/b", ".d", "a\\b", "d\n", "x" * 65, "d.", "dé"])
def test_a_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is called by letters"):
        Direction(name, SITE, unit(0))
    with pytest.raises(ConfigError, match="is called by letters"):
        load_direction(name, tmp_path)


@pytest.mark.parametrize(
    ("vector", "said"),
    [
        (torch.zeros(4), "all zero"),
        (torch.tensor([1.0, math.nan]), "NaN"),
        (torch.tensor([1.0, math.inf]), "infinite"),
        (torch.ones(2, 2), r"\(2, 2\)"),
        (torch.ones(0), r"\(0,\)"),
    ],
)
def test_a_vector_that_is_no_direction_is_refused(vector: torch.Tensor, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Direction("d", SITE, vector)


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_every_length_is_brought_to_one(size: float) -> None:
    vector = Direction("d", SITE, size * unit(0)).vector
    assert torch.allclose(vector, unit(0), atol=1e-6)


def test_a_pickle_and_other_files_are_not_read(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    (tmp_path / "pickled.safetensors").write_bytes(pickle.dumps(Bomb()))
    torch.save({"direction": unit(0)}, tmp_path / "saved.safetensors")
    (tmp_path / "empty.safetensors").touch()
    save_file({"direction": unit(0)}, tmp_path / "bare.safetensors")
    save_file({"x": unit(0)}, tmp_path / "other.safetensors", {"glossator": json.dumps({})})
    metadata = {"glossator": json.dumps({"site": SITE})}
    save_file({"direction": torch.zeros(3)}, tmp_path / "zero.safetensors", metadata)
    for name in ("pickled", "saved", "empty", "bare", "other"):
        with pytest.raises(AssetError, match=name):
            load_direction(name, tmp_path)
    with pytest.raises(ConfigError, match="all zero"):
        load_direction("zero", tmp_path)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(StoreError, match="cannot write"):
        save_direction(Direction("d", SITE, unit(0)), tmp_path / "bare.safetensors")


def test_bad_input_to_learning_is_told_of(subject: Subject) -> None:
    def learn(positive: Any = ("the",), negative: Any = ("old",), **others: Any) -> None:
        learn_direction(subject, **{"site": SITE, "name": "x"} | others, positive=positive,
                        negative=negative)  # fmt: skip

    bad: list[tuple[dict[str, Any], str]] = [
        ({"positive": []}, "no positive text"),
        ({"negative": ["", "x"]}, "negative text 1 is empty"),
        ({"positive": "the river"}, "list of texts"),
        ({"positive": ["old"]}, "both positive and negative: 'old'"),
        ({"positive": ["the", "of"], "paired": True}, "2 positive and 1 negative texts are no"),
        ({"positive": ["<|endoftext|>"]}, "no token that can be read"),
        ({"site": "layers.9.resid_post"}, r"site 'layers"),
        ({"site": "layers.*.resid_post"}, r"site 'layers"),
        ({"method": "mean"}, "no method to learn a direction is called 'mean'"),
        ({"at": "first"}, "no place to learn a direction is called 'first'"),
        ({"name": "../x"}, "is called by letters"),
        ({"ctx": 0}, "at least 1"),
    ]
    for arguments, said in bad:
        with pytest.raises(ConfigError, match=said):
            learn(**arguments)


def command(*arguments: str, **session: Any) -> int:
    """The commands as the app calls them, with a session as the app makes it."""
    app = typer.Typer()

    @app.callback()
    def options(context: typer.Context) -> None:
        context.obj = Session(**session)

    app.add_typer(direction_app, name="direction")
    found = typer.main.get_command(app).main(["direction", *arguments], standalone_mode=False)
    return found if isinstance(found, int) else 0


def test_the_commands_learn_list_and_refuse(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    positive, negative = tmp_path / "positive.txt", tmp_path / "negative.txt"
    positive.write_text("\n".join(f"Paris {WORDS[i]} Paris" for i in range(12)))
    negative.write_text("\n".join(f"war {WORDS[i]} war" for i in range(12)) + "\n")
    kept = tmp_path / "kept"
    learn = ["learn", "city", "--site", SITE, "--positive", str(positive), "--negative",
             str(negative), "--model", str(folder), "--folder", str(kept)]  # fmt: skip
    assert command(*learn) == 0
    told = capsys.readouterr()
    assert told.out == f"tiny//{SITE}@direction:city/0\n"
    assert "12 positive and 12 negative texts, held-out AUC 1.000" in told.err
    with pytest.raises(ConfigError, match="--replace"):
        command(*learn)
    assert command(*learn, "--replace", "--method", "pca", as_json=True) == 0
    told_json = json.loads(capsys.readouterr().out)["direction"]
    assert told_json["feature"] == f"tiny//{SITE}@direction:city/0"
    assert (told_json["width"], told_json["how"]["method"]) == (16, "pca")
    assert command("list", "--folder", str(kept)) == 0
    told = capsys.readouterr()
    assert "city" in told.out
    assert "1 directions in" in told.err
    assert command("list", "--folder", str(kept), as_json=True) == 0
    assert [d["name"] for d in json.loads(capsys.readouterr().out)["directions"]] == ["city"]
