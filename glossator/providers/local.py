"""A language model in this process, through transformers.

Requests that are waiting at the same time are answered together. Where only log probabilities are
wanted, their prompts are merged into one tree and each distinct token is computed once; the part
that all of them begin with stays in memory for the next ones.
"""

from __future__ import annotations

import asyncio
import copy
import math
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from glossator.assets import ASSETS, model_folder
from glossator.assets.quiet import quiet
from glossator.device import pick_device, pick_dtype
from glossator.errors import AssetError, ConfigError, PromptTooLong, ReplyError
from glossator.llm import Can, Reply, Request
from glossator.providers.prices import FREE, Price
from glossator.providers.tree import TokenTree, common_prefix
from glossator.types import Usage

if TYPE_CHECKING:
    from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

MAX_NODES = 512
"""Tokens a forward pass over a tree may hold: attention grows with its square."""
MAX_GENERATED_TOGETHER = 16


@dataclass(frozen=True)
class _Prompt:
    """A request in tokens."""

    ids: tuple[int, ...]
    places: tuple[int, ...]
    """Positions in `ids` behind which the answers' probabilities are wanted."""


@dataclass
class _Waiting:
    request: Request
    prompt: _Prompt
    future: asyncio.Future[Reply]


@dataclass
class LocalLLM:
    """A causal language model with a chat template, run in this process."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    revision: str = ""
    can: frozenset[Can] = frozenset({Can.ANSWERS, Can.PROMPT_LOGPROBS, Can.SAMPLING})
    price: Price = FREE
    _waiting: list[_Waiting] = field(default_factory=list, repr=False)
    _worker: asyncio.Task[None] | None = field(default=None, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _kept: tuple[tuple[int, ...], DynamicCache] | None = field(default=None, repr=False)

    @classmethod
    def load(
        cls,
        spec: str = "local",
        *,
        device: str = "auto",
        dtype: str = "auto",
        offline: bool = False,
    ) -> LocalLLM:
        """The model `spec` names: `local`, `local:small`, `hf:ID`, `gguf:PATH` or a folder.

        Raises:
            AssetError: if its weights cannot be had.
            ConfigError: if it has no chat template.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

        where: str | Path
        options: dict[str, Any] = {"local_files_only": offline or not spec.startswith("hf:")}
        tokenizer_options = dict(options)
        revision = ""
        if spec in ASSETS:
            where = model_folder(spec, offline=offline)
            revision = ASSETS[spec].sha256[:12]
        elif spec.startswith("gguf:"):
            file = Path(spec.removeprefix("gguf:"))
            if not file.is_file():
                raise AssetError(f"there is no file {file}")
            where = file.parent
            options |= {
                "gguf_file": file.name,
                "quantization_config": GgufConfig(dequantize=True),
            }
            tokenizer_options["gguf_file"] = file.name
        else:
            where = spec.removeprefix("hf:")
        place = pick_device(device)
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(where, **tokenizer_options)
                model = AutoModelForCausalLM.from_pretrained(
                    where, dtype=pick_dtype(dtype, place), use_safetensors=True, **options
                )
        except (OSError, ValueError) as error:
            raise AssetError(
                f"the language model {spec!r} cannot be loaded: {error}; "
                "use --llm local, a folder with safetensors, or gguf:PATH"
            ) from error
        if not tokenizer.chat_template:
            raise ConfigError(f"{spec!r} has no chat template, so it cannot follow instructions")
        torch.nn.Module.to(model, place)
        model.eval()  # type: ignore[no-untyped-call]
        return cls(spec, model, tokenizer, revision)

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`, computed together with others that wait."""
        if not request.max_tokens and not request.answers:
            raise ConfigError("a request asks for text (max_tokens) or for answers")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, self._prompt(request), loop.create_future())
        # What an event loop that has ended left behind is nobody's.
        self._waiting = [w for w in self._waiting if w.future.get_loop() is loop]
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done() or self._worker.get_loop() is not loop:
            self._worker = asyncio.create_task(self._work())
        return await waiting.future

    async def _work(self) -> None:
        """Answers what waits until nothing does."""
        while self._waiting:
            # Everybody who can ask now has asked when the loop comes round without a newcomer.
            known = -1
            while known != len(self._waiting):
                known = len(self._waiting)
                await asyncio.sleep(0.002)
            batch, self._waiting = self._waiting, []
            batch = [w for w in batch if not w.future.done()]
            await asyncio.to_thread(self._answer, batch, asyncio.get_running_loop())

    def _answer(self, batch: Sequence[_Waiting], loop: asyncio.AbstractEventLoop) -> None:
        """Runs in a thread; every future of `batch` gets a result or an error."""
        judged = sorted((w for w in batch if w.request.answers), key=lambda w: w.prompt.ids)
        written = [w for w in batch if not w.request.answers]
        with self._lock, torch.inference_mode():
            self._each(self._groups(judged), self._judge, loop)
            by_setting: dict[tuple[int, float, tuple[str, ...]], list[_Waiting]] = {}
            for w in written:
                key = (w.request.max_tokens, w.request.temperature, w.request.stop)
                by_setting.setdefault(key, []).append(w)
            together = [
                same[i : i + MAX_GENERATED_TOGETHER]
                for same in by_setting.values()
                for i in range(0, len(same), MAX_GENERATED_TOGETHER)
            ]
            self._each(together, self._write, loop)

    @staticmethod
    def _each(groups: list[list[_Waiting]], run: Any, loop: asyncio.AbstractEventLoop) -> None:
        def settle(waiting: _Waiting, reply: Reply | None, error: BaseException | None) -> None:
            if waiting.future.done():
                return
            if error is not None:
                waiting.future.set_exception(error)
            elif reply is not None:
                waiting.future.set_result(reply)

        for group in groups:
            began = time.perf_counter()
            try:
                replies = run(group)
            except BaseException as error:  # noqa: BLE001 - handed to whoever awaits the reply
                for waiting in group:
                    loop.call_soon_threadsafe(settle, waiting, None, error)
                continue
            share = (time.perf_counter() - began) / len(group)
            for waiting, reply in zip(group, replies, strict=True):
                reply = replace(reply, usage=replace(reply.usage, seconds=share))
                loop.call_soon_threadsafe(settle, waiting, reply, None)

    # -- prompts -----------------------------------------------------------------------------

    def _prompt(self, request: Request) -> _Prompt:
        """`request` in tokens, cut at its slots so that each ends where a token ends.

        Raises:
            ReplyError: if a slot's text is not in the prompt.
        """
        specials = self._specials()
        messages = [
            {"role": m.role, "content": defused(m.content, specials)} for m in request.messages
        ]
        text = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        if not isinstance(text, str):
            raise ReplyError("the chat template gave no text")
        text += request.prefill
        pieces = []
        # Some templates strip what they are given.
        at = text.rfind(messages[-1]["content"].strip()) if request.slots else 0
        if at < 0:
            raise ReplyError("the chat template left the last message out, or changed it")
        begin = 0
        for wanted in request.slots:
            slot = defused(wanted, specials)
            found = text.find(slot, at)
            if found < 0:
                raise ReplyError(f"the slot {slot!r} is not in the prompt")
            at = found + len(slot)
            pieces.append(text[begin:at])
            begin = at
        if begin < len(text) and not request.slots:
            pieces.append(text[begin:])
        ids: list[int] = []
        places = []
        for piece in pieces:
            ids += self._encode(piece)
            places.append(len(ids) - 1)
        limit = int(getattr(self.model.config, "max_position_embeddings", 0) or 1 << 30)
        if len(ids) + request.max_tokens > limit:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens; {self.name} takes {limit}",
                usage=Usage(),
                again=False,
            )
        return _Prompt(tuple(ids), tuple(places))

    def _specials(self) -> list[str]:
        """Special tokens as text: in a message, nobody may say them."""
        added = self.tokenizer.added_tokens_decoder.values()
        return sorted({t.content for t in added if t.special and len(t.content.strip()) > 1})

    def _encode(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    # -- log probabilities ---------------------------------------------------------------------

    def _groups(self, judged: list[_Waiting]) -> list[list[_Waiting]]:
        """Neighbours in the sorted list, as many together as a forward pass may hold."""
        groups: list[list[_Waiting]] = []
        tree = TokenTree()
        for waiting in judged:
            ids = waiting.prompt.ids
            # In sorted order the first and the newest have least in common of all in the group.
            shared = common_prefix([groups[-1][0].prompt.ids, ids]) if groups else 0
            if not groups or len(tree) + tree.growth(ids) - shared > MAX_NODES:
                groups.append([])
                tree = TokenTree()
            tree.insert(ids)
            groups[-1].append(waiting)
        return groups

    def _judge(self, group: list[_Waiting]) -> list[Reply]:
        """Log probabilities of the answers behind each place of each prompt of `group`."""
        prompts = [w.prompt for w in group]
        # At least one token of every prompt must be in the tree, for its logits.
        first_place = min(p.places[0] for p in prompts)
        prefix = prompts[0].ids[: min(common_prefix([p.ids for p in prompts]), first_place)]
        cache = self._prefix(prefix)
        tree = TokenTree()
        wanted: list[tuple[list[int], list[list[list[int]]]]] = []
        rows: dict[int, int] = {}
        for w in group:
            path = tree.insert(w.prompt.ids[len(prefix) :])
            answers = [self._encode(a) for a in w.request.answers]
            places = [path[p - len(prefix)] for p in w.prompt.places]
            branches = []
            for place in places:
                # The nodes whose logits give each token of each answer.
                nodes = [[place, *tree.insert(a[:-1], under=place)] for a in answers]
                branches.append(nodes)
                for node in {n for path_ in nodes for n in path_}:
                    rows.setdefault(node, len(rows))
            wanted.append((places, branches))
        self._kept = None  # what a pass that breaks off leaves behind is not to be used again
        log_probs = self._forward(tree, cache, len(prefix), list(rows))  # (n_rows, n_vocab)
        cut(cache, len(prefix))
        self._kept = (prefix, cache)
        replies = []
        for w, (_, branches) in zip(group, wanted, strict=True):
            answers = [self._encode(a) for a in w.request.answers]
            table = []
            for nodes in branches:
                joint = [
                    sum(float(log_probs[rows[n], t]) for n, t in zip(path_, answer, strict=True))
                    for path_, answer in zip(nodes, answers, strict=True)
                ]
                table.append(exactly(joint, answers))
            usage = Usage(calls=1, prompt_tokens=len(w.prompt.ids), completion_tokens=0, cost=0.0)
            replies.append(
                Reply(
                    answers=() if w.request.slots else table[-1],
                    slots=tuple(table) if w.request.slots else (),
                    usage=usage,
                    model=f"{self.name}@{self.revision}",
                )
            )
        return replies

    def _prefix(self, ids: tuple[int, ...]) -> DynamicCache:
        """The keys and values of `ids`, reusing what is kept."""
        from transformers import DynamicCache

        kept_ids, cache = self._kept or ((), DynamicCache(config=self.model.config))
        self._kept = None
        same = common_prefix([kept_ids, ids]) if kept_ids and ids else 0
        # One that was cut to nothing still has its batch size.
        cache = cache if same else DynamicCache(config=self.model.config)
        cut(cache, same)
        fresh = ids[same:]
        if fresh:
            tokens = torch.tensor([fresh], device=self.model.device)
            self.model.base_model(input_ids=tokens, past_key_values=cache, use_cache=True)
        self._kept = (ids, cache)
        return cache

    def _forward(
        self, tree: TokenTree, cache: DynamicCache, n_before: int, rows: list[int]
    ) -> torch.Tensor:
        """Log probabilities of the next token at the nodes `rows`, shape (n_rows, n_vocab)."""
        device, dtype = self.model.device, self.model.dtype
        seen = torch.from_numpy(tree.visible()).to(device)  # (n_nodes, n_nodes)
        before = torch.ones(len(tree), n_before, dtype=torch.bool, device=device)
        allowed = torch.cat([before, seen], dim=1)  # (n_nodes, n_before + n_nodes)
        mask = torch.zeros(allowed.shape, dtype=dtype, device=device)
        mask.masked_fill_(~allowed, torch.finfo(dtype).min)
        hidden = self.model.base_model(
            input_ids=torch.tensor([tree.tokens], device=device),
            attention_mask=mask[None, None],  # (1, 1, n_nodes, n_before + n_nodes)
            position_ids=torch.tensor([tree.depths], device=device) + n_before,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[0]  # (n_nodes, d_model)
        logits = self._logits(hidden[torch.tensor(rows, device=device)])  # (n_rows, n_vocab)
        return torch.log_softmax(logits.float(), dim=-1).cpu()

    # -- text ------------------------------------------------------------------------------------

    def _write(self, group: list[_Waiting]) -> list[Reply]:
        """Text that continues each prompt of `group`; all have the same settings.

        What the prompts begin with in common is computed once. The rest is padded on the left, so
        that every row's next token is at the end.
        """
        request = group[0].request
        device = self.model.device
        prompts = [w.prompt.ids for w in group]
        shared = min(common_prefix(prompts), min(map(len, prompts)) - 1)
        cache = copy.deepcopy(self._prefix(prompts[0][:shared]))
        cache.batch_repeat_interleave(len(group))
        longest = max(map(len, prompts)) - shared
        ids = torch.zeros(len(group), longest, dtype=torch.long)
        mask = torch.ones(len(group), shared + longest, dtype=torch.long)
        for row, prompt in enumerate(prompts):
            pad = longest - (len(prompt) - shared)
            ids[row, pad:] = torch.tensor(prompt[shared:])
            mask[row, shared : shared + pad] = 0
        position = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]  # (n_group, longest)
        # One for each row, so that a reply does not depend on who else was waiting.
        chances = [torch.Generator().manual_seed(int(w.request.digest[:12], 16)) for w in group]
        stops = self._stop_ids()
        made: list[list[int]] = [[] for _ in group]
        open_rows = set(range(len(group)))
        ids, mask, position = ids.to(device), mask.to(device), position.to(device)
        for _ in range(request.max_tokens):
            hidden = self.model.base_model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=position,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]  # (n_group, d_model)
            logits = self._logits(hidden).float().cpu()  # (n_group, n_vocab)
            if request.temperature > 0:
                odds = torch.softmax(logits / request.temperature, dim=-1)
                drawn = [
                    torch.multinomial(row, 1, generator=chance)
                    for row, chance in zip(odds, chances, strict=True)
                ]
                chosen = torch.cat(drawn)  # (n_group,)
            else:
                chosen = logits.argmax(dim=-1)  # (n_group,)
            for row in list(open_rows):
                made[row].append(int(chosen[row]))
                text = str(self.tokenizer.decode(made[row]))
                if int(chosen[row]) in stops or any(s in text for s in request.stop):
                    open_rows.discard(row)
            if not open_rows:
                break
            ids = chosen[:, None].to(device)
            mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
            position = position[:, -1:] + 1
        return [
            self._written(w, row not in open_rows, made[row], stops) for row, w in enumerate(group)
        ]

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        head: torch.nn.Module = self.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        found: torch.Tensor = head(hidden)
        return found

    def _stop_ids(self) -> set[int]:
        """Tokens that end a reply."""
        settings = self.model.generation_config
        named = settings.eos_token_id if settings is not None else None
        ids = named if isinstance(named, list) else [named]
        return {i for i in [*ids, self.tokenizer.eos_token_id] if isinstance(i, int)}

    def _written(self, w: _Waiting, ended: bool, made: list[int], stops: set[int]) -> Reply:
        kept = made[:-1] if made and made[-1] in stops else made
        text = str(self.tokenizer.decode(kept, skip_special_tokens=True))
        text = text[: min((text.find(s) for s in w.request.stop if s in text), default=len(text))]
        return Reply(
            text=w.request.prefill + text,
            finish="stop" if ended else "length",
            usage=Usage(
                calls=1, prompt_tokens=len(w.prompt.ids), completion_tokens=len(made), cost=0.0
            ),
            model=f"{self.name}@{self.revision}",
        )


def defused(text: str, specials: Sequence[str]) -> str:
    """`text` without special tokens: what is quoted in a message cannot end that message."""
    for special in specials:
        text = text.replace(special, f"{special[0]} {special[1:]}")
    return text


def cut(cache: DynamicCache, length: int) -> None:
    """Takes all tokens behind the first `length` out of `cache`."""
    surplus = cache.get_seq_length() - length
    if surplus > 0:
        cache.crop(-surplus)


def exactly(joint: Sequence[float], answers: Sequence[Sequence[int]]) -> tuple[float, ...]:
    """Log probability of each answer and no longer one, from those of beginning with it.

    Where "10" is two tokens, what begins with "1" may go on to "10"; that share is taken off "1".
    The share of "100" is part of that of "10", and is taken off "1" once.
    """

    def continues(longer: Sequence[int], shorter: Sequence[int]) -> bool:
        return len(longer) > len(shorter) and list(longer[: len(shorter)]) == list(shorter)

    found = []
    for value, answer in zip(joint, answers, strict=True):
        after = {tuple(a): v for v, a in zip(joint, answers, strict=True) if continues(a, answer)}
        longer = sum(
            math.exp(v) for a, v in after.items() if not any(continues(a, b) for b in after)
        )
        rest = math.exp(value) - longer
        found.append(value if longer == 0 else math.log(rest) if rest > 0 else -math.inf)
    return tuple(found)
