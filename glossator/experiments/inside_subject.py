"""`Inside` on a loaded subject: what reaches a feature there, and what it does directly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from glossator.errors import ConfigError, Unsupported
from glossator.experiments.attribution import importance_of, sources_of
from glossator.experiments.lens import attributed_of, lens_of
from glossator.experiments.passes import attended
from glossator.experiments.patching import patched_of
from glossator.experiments.probing import Probe, Text
from glossator.inside import Attributed, Importance, Lens, Patched, Source
from glossator.live import Attention

if TYPE_CHECKING:
    from glossator.experiments.of_subject import SubjectLive

_Result = TypeVar("_Result")


@dataclass(frozen=True, eq=False)
class SubjectInside:
    """See `glossator.inside.Inside`. In the one thread of the subject's experiments."""

    live: SubjectLive

    async def importance(self, text: str, at: int | None = None) -> Importance:
        """See `Inside`."""
        return await self._run(lambda: importance_of(self._probe, self._text(text), at))

    async def upstream(self, clean: str, corrupt: str, n: int = 10) -> tuple[Source, ...]:
        """See `Inside`."""
        return await self._run(lambda: sources_of(self._probe, *self._pair(clean, corrupt), n))

    async def patched(
        self, clean: str, corrupt: str, direction: Literal["denoise", "noise"], n: int = 20
    ) -> tuple[Patched, ...]:
        """See `Inside`."""
        return await self._run(
            lambda: patched_of(self._probe, *self._pair(clean, corrupt), direction, n)
        )

    async def lens(self, text: str, at: int | None = None, n: int = 5) -> tuple[Lens, ...]:
        """See `Inside`."""
        subject = self.live.experiments.subject
        return await self._run(lambda: lens_of(subject, self._text(text), at, n, self.live.named))

    async def attributed(self, text: str, n: int = 10) -> Attributed:
        """See `Inside`."""
        return await self._run(lambda: self._attributed(text, n))

    async def attention(self, layer: int, head: int, texts: Sequence[str]) -> tuple[Attention, ...]:
        """See `Inside`."""
        subject = self.live.experiments.subject
        n_heads = subject.architecture.n_heads
        if not (0 <= layer < subject.n_layers and 0 <= head < n_heads):
            raise ConfigError(
                f"{subject.name} has layers 0 to {subject.n_layers - 1}, each with heads 0 to "
                f"{n_heads - 1}, and no head {head} in layer {layer}"
            )
        return await self._run(lambda: attended(subject, layer, head, texts))

    def _attributed(self, text: str, n: int) -> Attributed:
        outputs = self.live.experiments.outputs
        if outputs is None:
            raise Unsupported(
                f"the unembedding of {self.live.experiments.subject.name} does not fit its "
                "residual stream, so nothing can be read out there"
            )
        read = self._text(text)
        return attributed_of(self._probe, outputs, read, n, self.live.n_known, self.live.named)

    @property
    def _probe(self) -> Probe:
        return Probe(self.live.experiments.subject, self.live.feature, self.live.coder)

    def _text(self, text: str) -> Text:
        return Text.of(self.live.experiments.subject, text, self.live.experiments.ctx)

    def _pair(self, clean: str, corrupt: str) -> tuple[Text, Text]:
        experiments = self.live.experiments
        return Text.pair(experiments.subject, clean, corrupt, experiments.ctx)

    async def _run(self, work: Callable[[], _Result]) -> _Result:
        return await self.live.experiments.run(work)
