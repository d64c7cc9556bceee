"""Where things are in a model: its body, its layers, and the modules that each site is read at.

Found by structure: the layers are the list of as many modules as the configuration counts, and the
parts of a layer are at the few paths that architectures use, taken only if their widths fit. What
structure cannot tell is in a table. Known this way, and tested, are Llama, Mistral, Qwen 2 and 3,
Gemma 2 and 3, GPT-2, GPT-NeoX, OPT, Phi, Falcon, Mixtral and Qwen3-MoE; most others are like one of
them. In any other model a site is the path of a module.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from glossator.errors import ConfigError
from glossator.sites import PARTS, TRANSFORMER_LENS, LayerSite, ModuleSite, Side

_ATTENTION = ("self_attn", "attention", "attn", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn", "block_sparse_moe", "moe")
_OUTPUT_PROJECTION = (
    *("o_proj", "out_proj", "dense", "c_proj"),
    *("attention.out_proj", "attention.dense"),
)
"""Of attention: Llama and most, OPT, GPT-NeoX, Phi and Falcon, GPT-2; GPT-Neo."""
_DOWN_PROJECTION = ("down_proj", "dense_4h_to_h", "c_proj", "fc2", "fc_out", "w2")
"""Of an MLP: Llama and most, GPT-NeoX and Falcon, GPT-2, Phi, GPT-J, early Llama-like ones."""
_DOWN_IN_BLOCK = ("fc2",)
"""The same where the layer has no module for the MLP: OPT."""
_NORM_AFTER = (
    ("post_feedforward_layernorm", "post_attention_layernorm"),
    ("post_mlp_layernorm", "post_self_attn_layernorm"),
)
"""Norms behind MLP and attention, before the sum: Gemma 2 and 3, OLMo 2; GLM-4. Llama's
`post_attention_layernorm` is behind the sum, so it is the MLP's norm that tells the two apart."""
_SUM_INSIDE = ("bloom", "mpt")
"""Model types whose MLP module adds the residual stream itself: what it adds is read before."""
_CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len")


@dataclass(frozen=True, slots=True)
class Spot:
    """A side of a module, and what the place is called."""

    site: str
    """The canonical name."""
    module: nn.Module
    side: Side
    part: str | None = None
    """Our name for it, of `glossator.sites.PARTS`, if it is such a part of a layer."""


@dataclass(frozen=True, slots=True, eq=False)
class Architecture:
    """Where things are in one model."""

    model: nn.Module
    body: Any
    """The part that turns token ids into the residual stream: no language-model head."""
    blocks: tuple[nn.Module, ...]
    """The layers, in order; empty if they were not found."""
    blocks_path: str
    """Path of the list of layers in the model, such as `model.layers`."""
    d_model: int
    n_heads: int
    """Query heads of a layer; 0 if the configuration does not say."""
    max_ctx: int | None
    """Most tokens the model can read at once, start token counted; None if nothing limits it."""
    kind: str
    """The configuration's `model_type`."""
    _parts: dict[LayerSite, Spot | str] = field(default_factory=dict, init=False, repr=False)

    def spot(self, site: LayerSite | ModuleSite) -> Spot:
        """The module that `site` is read at.

        Raises:
            ConfigError: if the model has no such site; names what there is.
        """
        if isinstance(site, LayerSite):
            found = self.part(site)
            if isinstance(found, str):
                raise ConfigError(found)
            return found
        try:
            module = self.model.get_submodule(site.path)
        except AttributeError:
            raise ConfigError(self._unknown(str(site))) from None
        if not site.path or isinstance(module, nn.ModuleList):
            raise ConfigError(self._unknown(str(site)))
        return self._named(module, site)

    def part(self, site: LayerSite) -> Spot | str:
        """The module that a part of a layer is read at, or why there is none."""
        if site not in self._parts:
            self._parts[site] = self._find(site)
        return self._parts[site]

    def layer_sites(self) -> Iterator[LayerSite]:
        """All parts of layers that can be read, layer by layer."""
        for layer in range(len(self.blocks)):
            for name in PARTS:
                site = LayerSite(layer, name)
                if isinstance(self.part(site), Spot):
                    yield site

    def d_mlp(self) -> int:
        """Neurons of the first layer that has them; 0 if none has, as with routed experts."""
        for layer in range(len(self.blocks)):
            found = self.part(LayerSite(layer, "mlp.neurons"))
            if isinstance(found, Spot):
                return (linear_widths(found.module) or (0, 0))[0]
        return 0

    def _find(self, site: LayerSite) -> Spot | str:
        if site.layer >= len(self.blocks):
            return self._unknown(str(site))
        block = self.blocks[site.layer]
        attention, mlp = _child(block, _ATTENTION), _child(block, _MLP)
        out = self._projection(attention, _OUTPUT_PROJECTION) if attention else None
        down = (
            self._projection(mlp, _DOWN_PROJECTION)
            if mlp
            else self._projection(block, _DOWN_IN_BLOCK)
        )
        after_mlp, after_attention = next(
            (
                (_child(block, (behind_mlp,)), _child(block, (behind_attention,)))
                for behind_mlp, behind_attention in _NORM_AFTER
                if _child(block, (behind_mlp,))
            ),
            (None, None),
        )
        if self.kind in _SUM_INSIDE:
            mlp, attention = down, out
        where: dict[str, tuple[nn.Module | None, Side]] = {
            "mlp.neurons": (down, "input"),
            "mlp.out": (after_mlp or mlp or down, "output"),
            "attn.out": (after_attention or attention, "output"),
            "attn.z": (out, "input"),
            "attn.heads": (out if self.n_heads else None, "input"),
            "resid_pre": (block, "input"),
            "resid_post": (block, "output"),
        }
        module, side = where[site.part]
        if module is not None:
            return Spot(str(site), module, side, site.part)
        readable = [part for part in PARTS if where[part][0] is not None]
        there = f"in layer {site.layer} there are {', '.join(readable)}"
        if site.part == "mlp.neurons" and mlp is not None and hasattr(mlp, "experts"):
            return (
                f"there is no {site}: its MLP is a mixture of experts, and each token goes through "
                f"other ones, so its neurons are not one vector a token; {there}"
            )
        return (
            f"there is no {site}: no module for it was found in a {type(block).__name__}; {there}, "
            f"and the path of any module, such as {self._example(site.layer)}"
        )

    def _projection(self, inside: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
        """The first linear layer of those names whose outputs are as wide as the stream."""
        for name in names:
            found = _child(inside, (name,))
            widths = linear_widths(found) if found is not None else None
            if widths and widths[1] == self.d_model:
                return found
        return None

    def _named(self, module: nn.Module, site: ModuleSite) -> Spot:
        """The spot by our own name if it has one, else by its path."""
        prefix = f"{self.blocks_path}."
        number = site.path.removeprefix(prefix).partition(".")[0]
        if site.path.startswith(prefix) and number.isdecimal():
            for part in PARTS:
                found = self.part(LayerSite(int(number), part))
                if isinstance(found, Spot) and found.module is module and found.side == site.side:
                    return found
        return Spot(str(site), module, site.side)

    def _example(self, layer: int = 0) -> str:
        """The path of some module inside a layer, to show what a path looks like."""
        for name, child in self.blocks[layer].named_modules() if self.blocks else ():
            if name and linear_widths(child):
                return f"{self.blocks_path}.{layer}.{name}"
        paths = (name for name, child in self.model.named_modules() if linear_widths(child))
        return next(paths, "PATH.OF.A.MODULE")

    def _unknown(self, site: str) -> str:
        """What to say about a name that is no site of this model."""
        paths = [name for name, _ in self.model.named_modules() if name]
        side = ":in" if site.endswith(":in") else ""
        ours = [str(known) for known in self.layer_sites()]
        lens = [f"blocks.{n}.{part}" for n in range(len(self.blocks)) for part in TRANSFORMER_LENS]
        if site.startswith("blocks.") and not self.blocks_path.startswith("blocks"):
            known = lens
        elif paths and site.partition(".")[0] in {path.partition(".")[0] for path in paths}:
            known = [path + side for path in paths]
        else:
            known = ours
        close = difflib.get_close_matches(site, known, n=3, cutoff=0.5)
        hint = f" (did you mean {' or '.join(close)}?)" if close else ""
        if not self.blocks:
            return (
                f"there is no site {site!r}{hint}; the layers of a {type(self.model).__name__} "
                "were not found, so give the path of a module (what leaves it is read, with :in "
                f"behind it what enters it), such as {self._example()}"
            )
        last = len(self.blocks) - 1
        return (
            f"there is no site {site!r}{hint}; there are layers.0 to layers.{last}, each with "
            f"{', '.join(PARTS)}; and the paths of modules, such as {self._example()}"
        )


def architecture_of(model: Any) -> Architecture:
    """Where things are in `model`, a causal language model of `transformers`.

    Raises:
        ConfigError: if it is an encoder and decoder in one.
    """
    config = model.config.get_text_config(decoder=True)
    if getattr(model.config, "is_encoder_decoder", False):
        raise ConfigError(
            f"a {type(model).__name__} has an encoder; only decoder-only models are read"
        )
    decoder = model.get_decoder()
    path, blocks = _layer_list(model, decoder, int(getattr(config, "num_hidden_layers", 0)))
    owner = model.get_submodule(path.rpartition(".")[0]) if path else decoder
    limits = (getattr(config, name, None) for name in _CONTEXT)
    return Architecture(
        model=model,
        body=owner if hasattr(owner, "get_input_embeddings") else decoder,
        blocks=tuple(blocks),
        blocks_path=path,
        d_model=int(config.hidden_size),
        n_heads=int(getattr(config, "num_attention_heads", 0) or 0),
        max_ctx=next((int(limit) for limit in limits if limit), None),
        kind=str(config.model_type),
    )


def linear_widths(module: nn.Module) -> tuple[int, int] | None:
    """How many inputs and outputs a linear layer has; None if the module is something else."""
    known: Any = module
    if hasattr(module, "in_features") and hasattr(module, "out_features"):
        return int(known.in_features), int(known.out_features)
    if hasattr(module, "nx") and hasattr(module, "nf"):  # GPT-2's, its weight the other way round
        return int(known.nx), int(known.nf)
    return None


def linear_weight(module: nn.Module) -> Tensor:
    """The weight of a linear layer, shape (n_outputs, n_inputs), whichever way round it is kept.

    Raises:
        ConfigError: if it is not kept as a plain matrix, as when it is quantized.
    """
    weight = getattr(module, "weight", None)
    widths = linear_widths(module)
    if (
        widths is None
        or not isinstance(weight, Tensor)
        or not weight.is_floating_point()
        or weight.numel() != widths[0] * widths[1]
    ):
        raise ConfigError(
            f"the weight of a {type(module).__name__} is not kept as a plain matrix, so heads "
            "cannot be told apart; load the model unquantized, or read attn.z or attn.out"
        )
    return weight.T if hasattr(module, "nx") else weight


def _child(module: nn.Module, paths: tuple[str, ...]) -> nn.Module | None:
    """The first of those paths that is a module inside `module`."""
    for path in paths:
        found: Any = module
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.Module):
            return found
    return None


def _layer_list(model: nn.Module, decoder: nn.Module, n_layers: int) -> tuple[str, nn.ModuleList]:
    """The list of that many layers nearest to the top of the decoder, and its path."""
    inside = {id(module) for module in decoder.modules()}
    lists = [
        (name, module)
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == n_layers and id(module) in inside
    ]
    return min(lists, key=lambda found: found[0].count("."), default=("", nn.ModuleList()))
