"""The subject: a language model whose inside is read, and for experiments changed.

Reading puts one start token before the text. That token is the attention sink: its activations are
a hundred times the others, so it is read by the model and left out of what is handed on.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from glossator.assets.quiet import quiet
from glossator.device import pick_device, pick_dtype
from glossator.errors import AssetError, ConfigError
from glossator.registry import nearest

BUNDLED = ("smollm2-135m",)
"""Names of subjects that come with the package's assets."""

Edit = Callable[[Tensor], Tensor]
"""From a site's activations, shape (batch, ctx, width), to what the model shall go on with."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a site is in a model."""

    site: str
    module: nn.Module
    side: Literal["input", "output"]
    """Which side of `module` is read."""
    width: int
    """Length of the last axis: how many features the site has."""


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A loaded language model, its tokenizer, and what is needed to read it."""

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
    d_model: int
    d_mlp: int
    revision: str
    """The hub's commit, or the first 16 hex digits of the SHA-256 of the weights."""
    start_token_id: int
    """Read before every text: the tokenizer's own first token, else its end-of-text token."""
    left_out_ids: frozenset[int]
    """Special tokens: they are in no statistic and no window."""

    def sites(self) -> list[str]:
        """The names of all sites that can be read, layer by layer."""
        return [f"layers.{layer}.{part}" for layer in range(self.n_layers) for part in _PARTS]

    def resolve(self, site: str) -> Place:
        """Where `site` is.

        Raises:
            ConfigError: for a site this model does not have; names the near ones.
        """
        match = re.fullmatch(r"layers\.(\d+)\.(.+)", site)
        if match is None or match[2] not in _PARTS or int(match[1]) >= self.n_layers:
            known = self.sites()
            hint = nearest(site, known).partition("(did you mean")[2].rstrip("?)").strip()
            raise ConfigError(
                f"{self.name} has no site {site!r}"
                + (f" (did you mean {hint}?)" if hint else "")
                + f"; there are layers.0 to layers.{self.n_layers - 1}, each with "
                + ", ".join(_PARTS)
            )
        block = _blocks(self.model)[int(match[1])]
        part = _PARTS[match[2]]
        width = self.d_mlp if part.width == "d_mlp" else self.d_model
        return Place(site, part.module(block), part.side, width)

    def expand(self, sites: str | Sequence[str]) -> list[str]:
        """`sites` with `layers.*.` replaced by every layer, each name checked, none twice.

        Raises:
            ConfigError: for a site this model does not have; names the near ones.
        """
        named = [sites] if isinstance(sites, str) else list(sites)
        found: dict[str, None] = {}
        for site in named:
            layers = range(self.n_layers) if site.startswith("layers.*.") else (0,)
            for layer in layers:
                name = site.replace("layers.*.", f"layers.{layer}.", 1)
                self.resolve(name)
                found[name] = None
        return list(found)

    def read(
        self, token_ids: Sequence[Sequence[int]], sites: str | Sequence[str]
    ) -> dict[str, Tensor]:
        """Activations of texts at `sites`, stopping after the last site that is reached.

        The start token is put before each text and left out of the result. Shorter texts are
        padded on the right, which no token before the padding can see.

        Args:
            token_ids: shape (batch, any length from 1), without a start token.
            sites: names, `layers.*` allowed.

        Returns:
            For each site a tensor of shape (batch, ctx, width), on the subject's device and in its
            dtype, ctx being the longest text; what stands in the padding means nothing.

        Raises:
            ConfigError: for an unknown site, no text, or a text without a token.
        """
        if not token_ids or not all(token_ids):
            raise ConfigError("reading takes at least one text, each with at least one token")
        names = self.expand(sites)
        longest = max(map(len, token_ids))
        shape = (len(token_ids), 1 + longest)
        ids = torch.full(shape, self.start_token_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        for row, text in enumerate(token_ids):
            ids[row, 1 : 1 + len(text)] = torch.tensor(list(text))
            mask[row, : 1 + len(text)] = 1
        # without the language-model head, which costs a fifth and is not needed
        with recording(self, names, stop=True) as kept, torch.inference_mode(), suppress(_Stop):
            self.model.base_model(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device), use_cache=False
            )
        return {name: kept[name][:, 1:] for name in names}  # each (batch, ctx, width)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a layer that is a site."""

    paths: tuple[str, ...]
    """Modules it may be at inside the layer: Llama and its like, GPT-NeoX, GPT-2, Phi, OPT."""
    side: Literal["input", "output"]
    width: Literal["d_mlp", "d_model"] = "d_model"

    def module(self, block: nn.Module) -> nn.Module:
        """The module in this layer that is hooked."""
        for path in self.paths:
            found: Any = block
            for name in filter(None, path.split(".")):
                found = getattr(found, name, None)
            if isinstance(found, nn.Module):
                return found
        raise ConfigError(
            f"a {type(block).__name__} has none of the modules {', '.join(self.paths)}: "
            "this kind of model cannot be read yet"
        )


_NEURONS = _Part(
    ("mlp.down_proj", "mlp.dense_4h_to_h", "mlp.c_proj", "mlp.fc2", "fc2"), "input", "d_mlp"
)
_PARTS: Mapping[str, _Part] = MappingProxyType(
    {
        "mlp.neurons": _NEURONS,
        "mlp.out": _Part(("mlp", "fc2"), "output"),
        "attn.out": _Part(("self_attn", "attention", "attn"), "output"),
        "resid_pre": _Part(("",), "input"),
        "resid_post": _Part(("",), "output"),
    }
)


class _Stop(Exception):
    """Ends a forward pass once every wanted site is recorded; never leaves this module."""


@contextmanager
def recording(
    subject: Subject, sites: str | Sequence[str], *, stop: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Keeps what passes through `sites` while the block runs.

    Yields a dictionary that holds, after each forward pass, every site's activations of that pass,
    shape (batch, ctx, width). The hooks are gone when the block is left, however it is left.

    Args:
        subject: the model.
        sites: names, `layers.*` allowed.
        stop: end each forward pass, by a private exception, when the last site has been reached.

    Raises:
        ConfigError: for an unknown site.
    """
    places = [subject.resolve(name) for name in subject.expand(sites)]
    kept: dict[str, Tensor] = {}
    seen: set[str] = set()

    def keep(place: Place) -> Edit:
        def see(acts: Tensor) -> Tensor:
            kept[place.site] = acts.detach()
            seen.add(place.site)
            if len(seen) == len(places):
                seen.clear()
                if stop:
                    raise _Stop
            return acts

        return see

    with _hooked([(place, keep(place)) for place in places]):
        yield kept


@contextmanager
def intervening(subject: Subject, site: str, edit: Edit) -> Iterator[None]:
    """Lets `edit` change the activations at `site` in every forward pass of the block.

    The hook is gone when the block is left, however it is left.

    Raises:
        ConfigError: for an unknown site; during a pass, if `edit` changes the shape.
    """
    place = subject.resolve(site)

    def change(acts: Tensor) -> Tensor:
        changed = edit(acts)
        if changed.shape != acts.shape:
            raise ConfigError(
                f"the edit of {site} turned shape {tuple(acts.shape)} into {tuple(changed.shape)}"
            )
        return changed.to(acts.dtype)

    with _hooked([(place, change)]):
        yield


@contextmanager
def _hooked(edits: Sequence[tuple[Place, Edit]]) -> Iterator[None]:
    """Runs each edit on what passes its place."""
    handles = []
    try:
        for place, edit in edits:
            if place.side == "input":
                hook = _before(edit)
                handles.append(place.module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(place.module.register_forward_hook(_after(edit)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before(edit: Edit) -> Callable[..., tuple[tuple[Any, ...], dict[str, Any]]]:
    def hook(
        module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (edit(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": edit(kwargs["hidden_states"])}

    return hook


def _after(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (edit(output[0]), *output[1:])
        return edit(output)

    return hook


def _blocks(model: Any) -> nn.ModuleList:
    """The model's layers, in order."""
    base = model.base_model
    for path in ("layers", "h", "decoder.layers"):
        found: Any = base
        for name in path.split("."):
            found = getattr(found, name, None)
        if isinstance(found, nn.ModuleList):
            return found
    raise ConfigError(f"no layers found in a {type(model).__name__}: it is not Llama-like")


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
        ConfigError: if there is no such model, device or dtype, or the model is not Llama-like.
        AssetError: if the weights cannot be had, or are pickled.
    """
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    if name.startswith("gguf:"):
        file = Path(name.removeprefix("gguf:")).expanduser()
        if not file.is_file():
            raise ConfigError(f"there is no GGUF file at {file}")
        return _loaded(file.stem, str(file.parent), where, kind, _digest([file]), gguf=file.name)
    if name in BUNDLED:
        from glossator.assets import ASSETS, model_folder

        folder = model_folder(ASSETS[name], offline=offline)
    elif Path(name).expanduser().is_dir():
        folder = Path(name).expanduser().resolve()
    elif re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not name.startswith("."):
        if offline or not _hub_answers():
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
    return _loaded(folder.name if name not in BUNDLED else name, str(folder), where, kind,
                   _digest(weights))  # fmt: skip


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
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place: dict[str, Any] = {"local_files_only": local_only}
    if gguf:
        place["gguf_file"] = gguf
    how: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True)} if gguf else {}
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(source, **place)
            model: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=dtype, use_safetensors=True, **place, **how
            )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        first = str(error).strip().partition("\n")[0]
        raise AssetError(f"the model {source} could not be loaded: {first}") from error
    model.to(device).eval()
    start = tokenizer.bos_token_id
    if start is None:
        start = tokenizer.eos_token_id
    if start is None:
        raise ConfigError(f"the tokenizer of {name} has neither a start nor an end-of-text token")
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    blocks = _blocks(model)
    return Subject(
        name=name,
        model=model,
        tokenizer=tokenizer,
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        n_layers=len(blocks),
        d_model=int(model.config.hidden_size),
        d_mlp=_fan_in(_NEURONS.module(blocks[0])),
        revision=revision or str(getattr(model.config, "_commit_hash", None) or "unknown"),
        start_token_id=int(start),
        left_out_ids=frozenset(special | set(tokenizer.all_special_ids)),
    )


def _fan_in(linear: nn.Module) -> int:
    """How many inputs a linear layer has; GPT-2 keeps its weight the other way round."""
    width: Any = getattr(linear, "in_features", None)
    if width is None:
        weight: Any = linear.weight
        width = weight.shape[0]
    return int(width)


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _hub_answers() -> bool:
    """Whether the hub can be reached at all; its own client would try for half a minute."""
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "TRUE", "YES", "ON"}:
        return False
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=5).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):
        return False
    return True
