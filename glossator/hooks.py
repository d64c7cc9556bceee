"""Hooks on a model: looking at what passes a site, keeping it, changing it.

Each is a context manager, and its hooks are gone when the block is left, however it is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glossator.errors import ConfigError
from glossator.sites import Side

if TYPE_CHECKING:
    from glossator.subject import Subject

Edit = Callable[[Tensor], Tensor]
"""From a site's activations, shape (batch, ctx, width), to what the model shall go on with."""

See = Callable[[str, Tensor], None]
"""Takes a site's name and its activations, shape (batch, ctx, width)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a site is in a model."""

    site: str
    module: nn.Module
    side: Side
    """Which side of `module` is read."""
    width: int
    """Length of the last axis: how many features the site has."""
    measure: Callable[[Tensor], Tensor] | None = None
    """What is computed from the tensor there, for a site that is no tensor of the model's own: from
    shape (batch, ctx, any) to (batch, ctx, width). Such a site can be read and not changed."""

    def activations(self, found: Tensor) -> Tensor:
        """The site's activations, shape (batch, ctx, width), from the tensor that passes it.

        Raises:
            ConfigError: if that is not one vector for each token.
        """
        if found.dim() != 3:
            raise _no_vectors(self.site, found)
        return found if self.measure is None else self.measure(found)


class Stop(Exception):
    """Ends a forward pass once every wanted site has been reached; never leaves this package."""


@contextmanager
def watching(
    body: nn.Module, places: Sequence[Place], see: See, *, skip: int = 0
) -> Iterator[None]:
    """Shows `see` what passes the places in the one forward pass of the block, then ends it.

    Args:
        body: the part of the model that is called with the tokens.
        places: where to look.
        see: called once for each place, in the order the pass comes to them, with a view of the
            model's own tensor.
        skip: positions at the start of each text that are not shown.

    Raises:
        ConfigError: from the pass, where no vector for each token passes; at the end, if it never
            came to a place.
    """
    pending = {place.site for place in places}

    def show(place: Place) -> Callable[[Tensor], None]:
        def look(found: Tensor) -> None:
            if place.site not in pending:
                return
            pending.discard(place.site)
            see(place.site, place.activations(found)[:, skip:])
            if not pending:
                raise Stop

        return look

    try:
        with _hooked(body, [(place, show(place)) for place in places]):
            yield
    except Stop:
        return
    if pending:
        raise ConfigError(
            f"the model's layers run without coming to {', '.join(sorted(pending))}; "
            "name a module inside them"
        )


@contextmanager
def recording(
    subject: Subject, sites: str | Sequence[str], *, stop: bool = False
) -> Iterator[dict[str, Tensor]]:
    """Keeps what passes through `sites` while the block runs.

    Yields a dictionary that holds, after each forward pass, every site's activations of that pass,
    shape (batch, ctx, width), by the name it was asked for (by its canonical one where that was a
    star), as copies: a model may add to its own tensors later. The hooks are gone when the block is
    left, however it is left.

    Args:
        subject: the model.
        sites: names, `layers.*` allowed.
        stop: end the forward pass, and leave the block, when the last site has been reached.

    Raises:
        ConfigError: for an unknown site.
    """
    named = subject.named(sites)
    places = [subject.resolve(site) for site in dict.fromkeys(named.values())]
    kept: dict[str, Tensor] = {}
    seen: set[str] = set()

    def keep(place: Place) -> Callable[[Tensor], None]:
        def look(found: Tensor) -> None:
            acts = place.activations(found.detach()).clone()
            kept.update({asked: acts for asked, site in named.items() if site == place.site})
            seen.add(place.site)
            if stop and len(seen) == len(places):
                raise Stop

        return look

    try:
        with _hooked(subject.body, [(place, keep(place)) for place in places]):
            yield kept
    except Stop:
        return


@contextmanager
def intervening(subject: Subject, site: str, edit: Edit) -> Iterator[None]:
    """Lets `edit` change the activations at `site` in every forward pass of the block.

    The hook is gone when the block is left, however it is left.

    Raises:
        ConfigError: for an unknown site, or one that is measured and not part of the model, such as
            `attn.heads`; during a pass, if `edit` changes the shape.
    """
    place = subject.resolve(site)
    if place.measure is not None:
        raise ConfigError(
            f"{place.site} is a norm, which the model does not go on with, so it cannot be "
            "changed; change attn.z, where each head has its own part"
        )

    def change(found: Tensor) -> Tensor:
        acts = place.activations(found)
        changed = edit(acts)
        if changed.shape != acts.shape:
            raise ConfigError(
                f"the edit of {site} turned shape {tuple(acts.shape)} into {tuple(changed.shape)}"
            )
        if changed is acts:
            return changed
        # a model may add to it in place, and what `edit` returned may be the caller's own
        return changed.to(acts.dtype, copy=True)

    with _hooked(subject.body, [(place, change)]):
        yield


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` says that a device or this machine has no memory left.

    `torch` has a class of its own for accelerators; its CPU allocator raises a plain RuntimeError.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("DefaultCPUAllocator", "not enough memory", "out of memory", "ALLOC_FAILED")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _no_vectors(site: str, found: Tensor) -> ConfigError:
    return ConfigError(
        f"a tensor of shape {tuple(found.shape)} passes {site}, which is not one vector for each "
        "token; name another module"
    )


@contextmanager
def _hooked(
    body: nn.Module, looks: Sequence[tuple[Place, Callable[[Tensor], Tensor | None]]]
) -> Iterator[None]:
    """Runs each function on what passes its place; what it returns, if anything, takes over."""
    handles = []
    shape: list[int] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[0] if args else kwargs.get("input_ids")
        if given is None:
            given = kwargs.get("inputs_embeds")
        shape[:] = given.shape[:2] if isinstance(given, Tensor) else ()

    def forget(*_: Any) -> None:
        shape.clear()

    def through(place: Place, look: Callable[[Tensor], Tensor | None], value: Any) -> Any:
        """`value` after `look`, or None if it stays as it is."""
        found = value[0] if isinstance(value, tuple | list) and value else value
        if not isinstance(found, Tensor):
            raise ConfigError(
                f"what passes {place.site} is a {type(found).__name__} and not a tensor; name "
                "another module"
            )
        # some models lay a batch's texts end to end: OPT before its MLP, routers of experts
        flat = found.dim() == 2 and len(shape) == 2 and found.shape[0] == shape[0] * shape[1]
        if shape and not flat and list(found.shape[:2]) != shape:
            raise _no_vectors(place.site, found)
        changed = look(found.reshape(*shape, -1) if flat else found)
        if changed is None:
            return None
        changed = changed.reshape(found.shape) if flat else changed
        return (changed, *value[1:]) if isinstance(value, tuple | list) else changed

    def before(place: Place, look: Callable[[Tensor], Tensor | None]) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args:
                changed = through(place, look, args[0])
                return None if changed is None else ((changed, *args[1:]), kwargs)
            name = next((n for n, v in kwargs.items() if isinstance(v, Tensor)), "hidden_states")
            name = "hidden_states" if "hidden_states" in kwargs else name
            changed = through(place, look, kwargs.get(name))
            return None if changed is None else (args, {**kwargs, name: changed})

        return hook

    def after(place: Place, look: Callable[[Tensor], Tensor | None]) -> Callable[..., Any]:
        return lambda module, args, output: through(place, look, output)

    try:
        handles.append(body.register_forward_pre_hook(note, with_kwargs=True))
        handles.append(body.register_forward_hook(forget))
        for place, look in looks:
            if place.side == "input":
                hook = before(place, look)
                handles.append(place.module.register_forward_pre_hook(hook, with_kwargs=True))
            else:
                handles.append(place.module.register_forward_hook(after(place, look)))
        yield
    finally:
        for handle in handles:
            handle.remove()
