"""Meanings of texts as vectors, so that near texts can be found; the bundled model runs offline."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from glossator.assets import model_folder
from glossator.assets.quiet import quiet
from glossator.device import pick_device

if TYPE_CHECKING:
    from torch import Tensor

Vectors = npt.NDArray[np.float32]

BATCH = 64
DIM = 384
LONGEST = 256
"""Tokens of a text that are read; the bundled model was trained on no longer ones."""


class Embedder(Protocol):
    """Turns texts into vectors of which the inner product says how near their meanings are."""

    @property
    def name(self) -> str:
        """What it is, for the record."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Shape (n_texts, dim), rows of length 1; equal texts have equal rows in every call."""
        ...


@dataclass
class MiniLM:
    """all-MiniLM-L6-v2: the mean of a text's last hidden states (Reimers and Gurevych 2019).

    The model is loaded, and fetched if need be, when it is first asked.
    """

    offline: bool = False
    device: str = "cpu"
    name: str = "minilm"
    _loaded: tuple[Any, Any] | None = field(default=None, repr=False)
    _kept: dict[str, Vectors] = field(default_factory=dict, repr=False)
    """A vector for each text that was asked for: scorers ask for the same windows again."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See `Embedder`; 384 numbers a text.

        Raises:
            AssetError: if the model could not be had.
        """
        with self._lock:
            fresh = [text for text in dict.fromkeys(texts) if text not in self._kept]
            # Texts of like length together, so that little is padding.
            fresh.sort(key=lambda text: (len(text), text))
            for begin in range(0, len(fresh), BATCH):
                batch = fresh[begin : begin + BATCH]
                self._kept.update(zip(batch, self._vectors(batch), strict=True))
            found = [self._kept[text] for text in texts]
            while len(self._kept) > 100_000:  # 150 MB
                del self._kept[next(iter(self._kept))]
        return np.array(found, np.float32).reshape(len(texts), DIM)

    def _vectors(self, texts: Sequence[str]) -> Vectors:
        import torch

        tokenizer, model = self._loaded or self._load()
        given = tokenizer(
            list(texts), padding=True, truncation=True, max_length=LONGEST, return_tensors="pt"
        ).to(model.device)
        with torch.inference_mode():
            hidden: Tensor = model(**given).last_hidden_state  # (batch, ctx, dim)
            inside = given["attention_mask"].unsqueeze(-1).to(hidden.dtype)  # (batch, ctx, 1)
            mean = (hidden * inside).sum(dim=1) / inside.sum(dim=1)  # (batch, dim)
            unit = torch.nn.functional.normalize(mean, dim=1)
        vectors: Vectors = unit.float().cpu().numpy()
        return vectors

    def _load(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        folder = model_folder("embedder", offline=self.offline)
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model = AutoModel.from_pretrained(folder, use_safetensors=True, local_files_only=True)
        model.to(pick_device(self.device)).eval()
        self._loaded = tokenizer, model
        return self._loaded


@functools.cache
def bundled(offline: bool = False) -> MiniLM:
    """The one `MiniLM` of this process, so that its weights are in memory once."""
    return MiniLM(offline)
