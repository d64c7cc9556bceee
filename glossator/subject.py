"""The subject: a language model whose inside is read, and for experiments changed.

Reading puts one start token before the text. That token is the attention sink: its activations are
a hundred times the others, so it is read by the model and left out of what is handed on.

What a site can be called is in `glossator.sites`, where it is in a model in
`glossator.architectures`, and hooks of one's own in `glossator.hooks`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glossator.architectures import (
    Architecture,
    Spot,
    architecture_of,
    linear_weight,
    linear_widths,
)
from glossator.device import pick_device, pick_dtype
from glossator.errors import AssetError, ConfigError
from glossator.heads import HeadNorms
from glossator.hooks import Edit, Place, See, intervening, out_of_memory, recording, watching
from glossator.registry import nearest
from glossator.sites import in_every_layer, parse_site
from glossator.subject_names import BUNDLED, subject_name
from glossator.weights import digest_of, hub_answers, load_pair

__all__ = [
    "BUNDLED",
    "Edit",
    "Place",
    "See",
    "Subject",
    "intervening",
    "load_subject",
    "out_of_memory",
    "recording",
]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A loaded language model, its tokenizer, and what is needed to read it.

    `load_subject` loads one; `Subject.of` takes a model that is already in memory.
    """

    name: str
    """What its features are called by: `smollm2-135m`, a folder's name, a hub id."""
    model: Any
    """A `transformers` causal language model, in evaluation mode."""
    tokenizer: Any
    """Its fast tokenizer."""
    device: str
    dtype: str
    """`float32`, `bfloat16` or `float16`."""
    n_layers: int
    """0 if the layers were not found; then sites are module paths."""
    d_model: int
    d_mlp: int
    """Neurons of a layer; 0 if no layer has any, as with routed experts."""
    revision: str
    """The hub's commit, or the first 16 hex digits of the SHA-256 of the weights."""
    start_token_id: int
    """Read before every text: the tokenizer's own first token, else its end-of-text token."""
    left_out_ids: frozenset[int]
    """Special tokens: they are in no statistic and no window."""
    architecture: Architecture = field(repr=False)
    """Where things are in the model."""
    _measured: dict[str, Any] = field(default_factory=dict, init=False, repr=False)
    """What was found out about sites and need not be found out again: widths, and heads' norms."""

    @classmethod
    def of(
        cls,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        revision: str | None = None,
        start_token_id: int | None = None,
    ) -> Subject:
        """A model that is in memory, as a subject; nothing about it is changed.

        Args:
            model: a `transformers` causal language model, on its device and in evaluation mode.
            tokenizer: its fast tokenizer.
            name: what its features are called by; at most one `/`, inside it.
            revision: what tells these weights from others; by default the hub's commit, if known.
            start_token_id: read before every text; by default the tokenizer's first token, else its
                end-of-text token, else those of the model's configuration.

        Raises:
            ConfigError: if the model is in training mode, is not decoder-only, or if there is no
                start token.
        """
        if model.training:
            raise ConfigError(f"{name} is in training mode, with dropout: call model.eval() first")
        found = architecture_of(model)
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        weight = model.get_input_embeddings().weight
        start = _start_token(model, tokenizer) if start_token_id is None else start_token_id
        if start is None:
            raise ConfigError(
                f"neither the tokenizer nor the configuration of {name} has a start token or an "
                "end-of-text token; give one: Subject.of(..., start_token_id=...)"
            )
        return cls(
            name=name,
            model=model,
            tokenizer=tokenizer,
            device=str(weight.device),
            dtype=str(weight.dtype).removeprefix("torch."),
            n_layers=len(found.blocks),
            d_model=found.d_model,
            d_mlp=found.d_mlp(),
            revision=revision or str(getattr(model.config, "_commit_hash", None) or "unknown"),
            start_token_id=start,
            left_out_ids=frozenset(special | set(tokenizer.all_special_ids)),
            architecture=found,
        )

    @property
    def max_ctx(self) -> int | None:
        """Most tokens it can read at once, start token counted; None if nothing limits it."""
        return self.architecture.max_ctx

    @property
    def body(self) -> Any:
        """The part of the model that is run for reading: all but the language-model head."""
        return self.architecture.body

    def sites(self) -> list[str]:
        """Our names of all sites that can be read, layer by layer; module paths come on top."""
        return [str(site) for site in self.architecture.layer_sites()]

    def resolve(self, site: str) -> Place:
        """Where `site` is: our name, TransformerLens's, or a module path (see `glossator.sites`).

        A module of unknown width is measured by a forward pass over a few tokens, once.

        Raises:
            ConfigError: for a site this model does not have; names the near ones.
        """
        spot = self._spot(site)
        if spot.part == "attn.heads":
            heads = self._head_norms(spot)
            return Place(spot.site, spot.module, spot.side, self.architecture.n_heads, heads)
        widths = linear_widths(spot.module)
        if widths is not None:
            width = widths[0 if spot.side == "input" else 1]
        elif spot.part is not None:
            width = self.d_model
        else:
            width = self._probed(spot)
        return Place(spot.site, spot.module, spot.side, width)

    def expand(self, sites: str | Sequence[str]) -> list[str]:
        """The canonical names of `sites`, each checked, none twice.

        `layers.*.` means every layer that has the part: in a model that has neurons in some layers
        and routed experts in others, the former.

        Raises:
            ConfigError: for a site that this model does not have, or has in no layer; names the
                near ones.
        """
        return list(dict.fromkeys(self.named(sites).values()))

    def named(self, sites: str | Sequence[str]) -> dict[str, str]:
        """From each of `sites` as it was asked for, a star as every layer, to its canonical name.

        Raises:
            ConfigError: as `expand`.
        """
        found: dict[str, str] = {}
        for site in [sites] if isinstance(sites, str) else sites:
            errors: list[ConfigError] = []
            choices = in_every_layer(site, self.n_layers) or [site]
            for choice in choices:
                try:
                    canonical = self._spot(choice).site
                except ConfigError as error:
                    errors.append(error)
                else:
                    found[site if choice == site else canonical] = canonical
            if len(errors) == len(choices):
                raise errors[0]
        return found

    def scan(
        self, token_ids: Sequence[Sequence[int]], sites: str | Sequence[str], see: See
    ) -> None:
        """Hands over activations of texts site by site, as one forward pass reaches them.

        The start token is put before each text and left out of what is seen. Shorter texts are
        padded on the right, which no token before the padding can see. The pass ends after the last
        site; the language-model head is not run, and nothing is held afterwards.

        Args:
            token_ids: shape (batch, any length from 1), without a start token.
            sites: names, `layers.*` allowed.
            see: called once for each site, in the order the pass comes to them, with its canonical
                name and its activations, shape (batch, ctx, width), on the subject's device and in
                its dtype, ctx being the longest text; what stands in the padding means nothing.
                They are a view of the model's own tensor (one of inference mode), which the model
                may go on to change: whoever keeps them copies them, and nobody writes to them.
                `see` runs without gradients; what it computes is ordinary tensors.

        Raises:
            ConfigError: for an unknown site, no text, a text without a token or longer than the
                model's context, or a token that is not in its vocabulary.
        """
        places = [self.resolve(name) for name in self.expand(sites)]
        ids = self._padded(token_ids)  # (batch, 1 + ctx)

        def show(site: str, acts: Tensor) -> None:
            # what `see` makes of them is then an ordinary tensor, which can be added to later
            with torch.inference_mode(mode=False), torch.no_grad():
                see(site, acts)

        # No mask: attention is causal and the padding is on the right. Without one, the model takes
        # the fastest attention there is.
        with watching(self.body, places, show, skip=1), torch.inference_mode():
            self.body(input_ids=ids.to(self.device), use_cache=False)

    def read(
        self, token_ids: Sequence[Sequence[int]], sites: str | Sequence[str]
    ) -> dict[str, Tensor]:
        """Activations of texts at `sites`, stopping after the last site that is reached.

        As `scan`, which holds one site at a time where this holds them all.

        Args:
            token_ids: shape (batch, any length from 1), without a start token.
            sites: names, `layers.*` allowed.

        Returns:
            For each site, by the name that it was asked for (by its canonical one where that was a
            star), a tensor of shape (batch, ctx, width), on the subject's device and in its dtype,
            ctx being the longest text; what stands in the padding means nothing.

        Raises:
            ConfigError: as `scan`.
        """
        kept: dict[str, Tensor] = {}

        def keep(site: str, acts: Tensor) -> None:
            kept[site] = acts.clone()  # the model may go on to change its own

        named = self.named(sites)
        self.scan(token_ids, list(named.values()), keep)
        return {asked: kept[site] for asked, site in named.items()}  # each (batch, ctx, width)

    def _padded(self, token_ids: Sequence[Sequence[int]]) -> Tensor:
        """The texts as one tensor, shape (batch, 1 + ctx), each after a start token."""
        if not token_ids or not all(len(text) for text in token_ids):
            raise ConfigError("reading takes at least one text, each with at least one token")
        longest = max(map(len, token_ids))
        if self.max_ctx is not None and 1 + longest > self.max_ctx:
            raise ConfigError(
                f"a text of {longest} tokens is {1 + longest} with the start token, but "
                f"{self.name} reads at most {self.max_ctx}: cut texts to {self.max_ctx - 1} (--ctx)"
            )
        start = self.start_token_id
        ids = torch.tensor([[start, *text, *[start] * (longest - len(text))] for text in token_ids])
        known = self.model.get_input_embeddings().num_embeddings
        if int(ids.min()) < 0 or int(ids.max()) >= known:
            raise ConfigError(
                f"a token is numbered {int(ids.max())}, or below 0, but {self.name} knows "
                f"0 to {known - 1}; use the model's own tokenizer"
            )
        return ids

    def _spot(self, site: str) -> Spot:
        return self.architecture.spot(parse_site(site))

    def _head_norms(self, spot: Spot) -> HeadNorms:
        weight = linear_weight(spot.module)
        known = self._measured.get(spot.site)
        if not (isinstance(known, HeadNorms) and known.is_of(weight)):
            known = HeadNorms(weight, self.architecture.n_heads)
            self._measured[spot.site] = known
        return known

    def _probed(self, spot: Spot) -> int:
        """The width of a module that does not say it: what passes there in a small forward pass."""
        if spot.site not in self._measured:
            widths: list[int] = []
            place = Place(spot.site, spot.module, spot.side, width=0)
            # two texts of three tokens, so that no axis is taken for another
            ids = torch.full((2, 3), self.start_token_id, device=self.device)
            with (
                watching(self.body, [place], lambda _, acts: widths.append(acts.shape[-1])),
                torch.no_grad(),
            ):
                self.body(input_ids=ids, use_cache=False)
            self._measured[spot.site] = widths[0]
        width: int = self._measured[spot.site]
        return width


def _start_token(model: Any, tokenizer: Any) -> int | None:
    """The first token of a text by the tokenizer, else by the configuration, else end-of-text."""
    config = model.config.get_text_config(decoder=True)
    for owner in (tokenizer, config):
        for name in ("bos_token_id", "eos_token_id"):
            found = getattr(owner, name, None)
            found = found[0] if isinstance(found, list) and found else found
            if isinstance(found, int):
                return found
    return None


def load_subject(
    name: str, device: str = "auto", dtype: str = "auto", offline: bool = False
) -> Subject:
    """The subject called `name`, ready to be read.

    Weights are read from safetensors or GGUF only, never unpickled, and no code that comes with a
    model is run.

    Args:
        name: `smollm2-135m` (bundled), a folder, `gguf:PATH`, or a hub id with its owner.
        device: `auto` (CUDA, then MPS, then CPU) or a torch device.
        dtype: `auto` (bfloat16 where the machine computes in it, else float32) or its name.
        offline: never try the network.

    Raises:
        ConfigError: if there is no such model, device or dtype, or the model has an encoder.
        AssetError: if the weights cannot be had, or are pickled.
    """
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    if name.startswith("gguf:"):
        file = Path(name.removeprefix("gguf:")).expanduser()
        if not file.is_file():
            raise ConfigError(f"there is no GGUF file at {file}")
        return _loaded(
            subject_name(name), str(file.parent), where, kind, digest_of([file]), gguf=file.name
        )
    if name in BUNDLED:
        from glossator.assets import ASSETS, model_folder

        folder = model_folder(ASSETS[name], offline=offline)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        if offline or not hub_answers():
            return _from_hub(name, where, kind, offline=True)
        return _from_hub(name, where, kind, offline=False)
    else:
        raise ConfigError(
            f"no model is called {name!r} and no folder is there; {nearest(name, list(BUNDLED))}, "
            "a folder, gguf:PATH, or a hub id with its owner such as EleutherAI/pythia-70m"
        )
    weights = sorted(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise AssetError(
            f"{folder} holds no model: it needs config.json, tokenizer.json and *.safetensors "
            "(pickled weights, .bin or .pt, are not read; convert them first)"
        )
    return _loaded(subject_name(name), str(folder), where, kind, digest_of(weights))


def _from_hub(name: str, device: str, dtype: torch.dtype, offline: bool) -> Subject:
    try:
        return _loaded(name, name, device, dtype, revision=None, local_only=offline)
    except AssetError as error:
        if not offline:
            raise
        raise AssetError(
            f"{name} is not on this machine and the model hub cannot be asked; "
            f"go online, or use a folder or {BUNDLED[0]}"
        ) from error


def _loaded(
    name: str,
    source: str,
    device: str,
    dtype: torch.dtype,
    revision: str | None,
    *,
    gguf: str | None = None,
    local_only: bool = True,
) -> Subject:
    model, tokenizer = load_pair(source, dtype, gguf=gguf, local_only=local_only)
    model.to(device)
    subject = Subject.of(model, tokenizer, name=name, revision=revision)
    return replace(subject, device=device)  # as it was asked for: "cuda", not "cuda:0"
