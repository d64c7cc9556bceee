"""Forward passes of a local model, none of them over more tokens at once than memory allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from glossator.providers.kept import Kept, Past
from glossator.providers.tree import TokenTree

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel

MOST_ON_CPU, MOST = 256, 1024
"""Tokens of a pass. On two cores, 256 is a few percent faster than 512, and a fifth than 1,024."""
SHARE_KEPT, LEAST_KEPT = 8, 32 << 20
"""Keys and values of prompts may take this part of what the weights take, or so many bytes."""
LARGEST_ERROR = 0.1
"""Of log probabilities by trees, in parts of their spread: bfloat16 leaves 0.02."""
_TO_TRY = ((1, 2, *range(3, 99)), (1, 2, 3, 106, 107), (1, 2, 108, 109))
"""Begin alike; where one of them is misplaced in a tree, it is so by many tokens."""


@dataclass
class Passes:
    """One model, and what it has read before."""

    model: PreTrainedModel
    kept: Kept
    most: int
    """Tokens that a pass holds: of a tree, attention grows with their square."""

    @classmethod
    def of(cls, model: PreTrainedModel) -> Passes:
        """Keeps keys and values in a bounded part of the memory that the weights take."""
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        kept = Kept(max(weights // SHARE_KEPT, LEAST_KEPT))
        return cls(model, kept, MOST_ON_CPU if model.device.type == "cpu" else MOST)

    @property
    def n_vocab(self) -> int:
        """How many tokens the model tells apart; its tokenizer may know fewer."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def limit(self) -> int:
        """Positions that the model has."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 1 << 30)

    def past(self, ids: tuple[int, ...]) -> Past:
        """What `ids` leave behind; only what is not kept is computed, in passes of bounded size."""
        before = self.kept.longest(ids)
        if len(before.ids) == len(ids):
            return before
        cache = before.cache()
        for begin in range(len(before.ids), len(ids), self.most):
            self.model.base_model(
                input_ids=self._tensor([ids[begin : begin + self.most]]),
                past_key_values=cache,
                use_cache=True,
            )
        past = Past(ids, _layers(cache))
        self.kept.keep(past)
        return past

    def log_probs(
        self, past: Past, tree: TokenTree, wanted: Mapping[int, Sequence[int]]
    ) -> dict[tuple[int, int], float]:
        """Log probability of each token of `wanted[node]` behind that node of `tree`.

        Args:
            past: what all of the tree comes behind.
            tree: what is to be read.
            wanted: for some nodes, which tokens may come next.
        """
        found: dict[tuple[int, int], float] = {}
        cache = past.cache()
        for begin in range(0, len(tree), self.most):
            end = min(begin + self.most, len(tree))
            given = {
                "input_ids": self._tensor([tree.tokens[begin:end]]),
                "attention_mask": self._masks(tree, begin, end, len(past.ids)),
                "position_ids": self._tensor([tree.depths[begin:end]]) + len(past.ids),
                "past_key_values": cache,
                "use_cache": True,
            }
            rows = [node for node in wanted if begin <= node < end]
            if not rows:
                self.model.base_model(**given)
                continue
            places = self._tensor([node - begin for node in rows])
            logits = self.model(**given, logits_to_keep=places).logits[0]  # (n_rows, n_vocab)
            for node, row in zip(rows, logits, strict=True):
                tokens = list(wanted[node])
                values = row.float()
                picked = (values[tokens] - values.logsumexp(0)).tolist()
                found |= {(node, t): p for t, p in zip(tokens, picked, strict=True)}
        return found

    def next_logits(
        self, ids: torch.Tensor, mask: torch.Tensor, position: torch.Tensor, cache: DynamicCache
    ) -> torch.Tensor:
        """Logits of what comes behind the last of `ids`, shape (n_rows, n_vocab); extends `cache`.

        Args:
            ids: shape (n_rows, n_new).
            mask: shape (n_rows, n_before + n_new), 0 where a row has no token.
            position: shape (n_rows, n_new).
            cache: what comes before, padding included.
        """
        device = self.model.device
        logits: torch.Tensor = self.model(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            position_ids=position.to(device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        return logits.float().cpu()

    def trees_are_right(self) -> bool:
        """Whether this kind of model gives in a tree what it gives in plain passes.

        One that counts positions in its own way, or has no keys and values, does not.
        """
        n_vocab = min(self.n_vocab, 1000)
        texts = [tuple(i % n_vocab for i in text) for text in _TO_TRY]
        tree = TokenTree()
        ends = [tree.insert(text[1:])[-1] for text in texts]
        past = Past(texts[0][:1], _layers(self._read(texts[0][:1])))
        if not past.layers:  # It keeps something else than keys and values.
            return False
        every = range(n_vocab)
        found = self.log_probs(past, tree, dict.fromkeys(ends, every))
        for text, end in zip(texts, ends, strict=True):
            logits = self.model(input_ids=self._tensor([text]), logits_to_keep=1).logits[0, -1]
            plain = logits.float().log_softmax(0).cpu()[:n_vocab]
            ours = torch.tensor([found[end, t] for t in every])
            if float((ours - plain).std()) > LARGEST_ERROR * float(plain.std()):
                return False
        return True

    def _read(self, ids: tuple[int, ...]) -> DynamicCache:
        cache = Past().cache()
        self.model.base_model(input_ids=self._tensor([ids]), past_key_values=cache, use_cache=True)
        return cache

    def _masks(self, tree: TokenTree, begin: int, end: int, n_before: int) -> Any:
        """What nodes `begin` to `end` see, shape (1, 1, n_nodes, n_before + end) for each kind.

        A model with layers of two kinds gets a mask for each; the others get one.
        """
        config = self.model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        kinds = set(getattr(config, "layer_types", None) or ())
        seen = torch.from_numpy(tree.visible(begin, end))  # (n_nodes, end)
        before = torch.ones(end - begin, n_before, dtype=torch.bool)
        full = torch.cat([before, seen], dim=1)  # (n_nodes, n_before + end)
        at = torch.tensor(tree.depths[:end]) + n_before  # (end,)
        keys = torch.cat([torch.arange(n_before), at])  # (n_before + end,)
        near = full
        if window is not None and kinds != {"full_attention"}:
            near = full & (at[begin:, None] - keys[None] < window)
        if len(kinds) > 1:
            return {"full_attention": self._added(full), "sliding_attention": self._added(near)}
        return self._added(near)

    def _added(self, allowed: torch.Tensor) -> torch.Tensor:
        """What is added to scores: 0 where `allowed`, else as little as there is."""
        dtype = self.model.dtype
        mask = torch.zeros(allowed.shape, dtype=dtype)
        mask.masked_fill_(~allowed, torch.finfo(dtype).min)
        return mask[None, None].to(self.model.device)

    def _tensor(self, values: Any) -> torch.Tensor:
        return torch.tensor(values, device=self.model.device)


def _layers(cache: DynamicCache) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Keys and values of each layer; none at all where a layer is of another kind."""
    layers = [
        (getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in cache.layers
    ]
    found = tuple((k, v) for k, v in layers if k is not None and v is not None)
    return found if len(found) == len(layers) else ()
