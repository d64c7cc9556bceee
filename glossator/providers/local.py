"""A language model in this process, through transformers.

Requests that are waiting at the same time are answered together. What their prompts begin with in
common is computed once, and kept for the next ones that begin so.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from glossator.assets import ASSETS, model_folder
from glossator.assets.quiet import quiet
from glossator.device import pick_device, pick_dtype
from glossator.errors import AssetError, ConfigError, PromptTooLong, ReplyError
from glossator.llm import Can, Reply, Request
from glossator.providers import generating, judging
from glossator.providers.grammar import Grammars
from glossator.providers.grammar import Path as SchemaPath
from glossator.providers.passes import Passes
from glossator.providers.prices import FREE, Price
from glossator.providers.prompts import Prompt, Prompts
from glossator.providers.turns import refuse_what_it_cannot
from glossator.types import Usage

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class _Waiting:
    request: Request
    prompt: Prompt
    path: SchemaPath | None
    future: asyncio.Future[Reply]


Answer = Callable[[Sequence[_Waiting]], "list[Reply | ReplyError]"]


@dataclass
class LocalLLM:
    """A causal language model with a chat template, run in this process."""

    name: str
    model: PreTrainedModel = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    revision: str = ""
    can: frozenset[Can] = frozenset(
        {Can.ANSWERS, Can.PROMPT_LOGPROBS, Can.SAMPLING, Can.SCHEMA, Can.SEED}
    )
    price: Price = FREE
    _waiting: list[_Waiting] = field(default_factory=list, init=False, repr=False)
    _taken: list[_Waiting] = field(default_factory=list, init=False, repr=False)
    """Those that the worker is at."""
    _worker: asyncio.Task[None] | None = field(default=None, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)
    _passes: Passes | None = field(init=False, repr=False)
    """None once it is closed."""

    def __post_init__(self) -> None:
        self._passes = Passes.of(self.model)
        self._prompts = Prompts(self.name, self.tokenizer, self._passes.limit)
        self._grammars = Grammars(
            self.name, self.tokenizer, self._passes.n_vocab, sorted(self._ends())
        )

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

    async def check(self) -> str:
        """Makes sure that this kind of model can be read as fast as this is done; says nothing.

        Raises:
            ConfigError: if it cannot.
        """
        passes = self._open()

        def right() -> bool:
            with self._lock, torch.inference_mode():
                return passes.trees_are_right()

        told = (
            f"{self.name} is of a kind that cannot share the beginnings of prompts: serve it, for "
            "instance with vLLM, and use openai:MODEL with --base-url"
        )
        try:
            found = await asyncio.to_thread(right)
        except (RuntimeError, TypeError, ValueError) as error:  # Its passes take no such masks.
            raise ConfigError(told) from error
        if not found:
            raise ConfigError(told)
        return ""

    async def aclose(self) -> None:
        """Frees the memory that the model takes; what still waits is not answered."""
        if self._passes is None:
            return
        worker, self._worker = self._worker, None
        if worker is not None and worker.get_loop() is asyncio.get_running_loop():
            worker.cancel()
            await asyncio.wait({worker})
        for waiting in (*self._taken, *self._waiting):
            _settle(waiting, ConfigError(f"{self.name} was closed before it had answered"))
        self._taken, self._waiting = [], []
        on_gpu = self.model.device.type == "cuda"
        del self.model
        self._passes = None
        if on_gpu:
            torch.cuda.empty_cache()

    async def reply(self, request: Request) -> Reply:
        """The answer to `request`, computed together with others that wait.

        Stop strings do not count where there is a schema.
        """
        self._open()
        if not request.max_tokens and not request.answers:
            raise ConfigError("a request asks for text (max_tokens) or for answers")
        refuse_what_it_cannot(request, self)
        if request.lines and request.answers:
            return await self._line_by_line(request)
        prompt = self._prompts.of(request)
        path = None
        if request.schema and not request.answers:
            path = await asyncio.to_thread(self._grammars.start, request.schema, request.prefill)
        loop = asyncio.get_running_loop()
        waiting = _Waiting(request, prompt, path, loop.create_future())
        # What an event loop that has ended left behind is nobody's.
        self._waiting = [w for w in self._waiting if w.future.get_loop() is loop]
        self._waiting.append(waiting)
        if self._worker is None or self._worker.done() or self._worker.get_loop() is not loop:
            self._worker = asyncio.create_task(self._work())
            self._worker.add_done_callback(self._has_ended)
        return await waiting.future

    async def _line_by_line(self, request: Request) -> Reply:
        """The likeliest answer on each line, and how likely all are, given the lines before it."""
        said, usage = request.prefill, Usage()
        rows: list[tuple[float, ...]] = []
        answers = tuple(f" {answer.strip()}" for answer in request.answers)
        for number in range(1, request.lines + 1):
            said += f"{number}:"
            one = replace(request, lines=0, max_tokens=0, prefill=said, answers=answers)
            reply = await self.reply(one)
            rows.append(reply.answers)
            usage = replace(reply.usage, seconds=usage.seconds + reply.usage.seconds)
            said += answers[max(range(len(answers)), key=reply.answers.__getitem__)] + "\n"
        return Reply(said, slots=tuple(rows), usage=usage, model=self._version)

    # -- who waits ----------------------------------------------------------------------------

    async def _work(self) -> None:
        """Answers what waits until nothing does."""
        while self._waiting:
            # Everybody who can ask now has asked when the loop comes round without a newcomer.
            known = -1
            while known != len(self._waiting):
                known = len(self._waiting)
                await asyncio.sleep(0.002)
            self._taken, self._waiting = self._waiting, []
            for answer, group in await asyncio.to_thread(self._planned, self._taken):
                await self._answer(answer, group)
            self._taken = []

    def _has_ended(self, worker: asyncio.Task[None]) -> None:
        """Nobody is to wait for a worker that broke off."""
        error = None if worker.cancelled() else worker.exception()
        if error is not None:
            for waiting in self._taken:
                _settle(waiting, error)

    def _planned(self, batch: Sequence[_Waiting]) -> list[tuple[Answer, list[_Waiting]]]:
        """Who of `batch` is answered together, and how."""
        judged = [w for w in batch if w.request.answers]
        written = [w for w in batch if not w.request.answers]
        bounds = [w.request.max_tokens for w in written]
        trees = judging.groups([w.prompt for w in judged], self._open().most)
        texts = generating.batches([w.prompt for w in written], bounds)
        return [
            *((self._judge, [judged[i] for i in group]) for group in trees),
            *((self._write, [written[i] for i in group]) for group in texts),
        ]

    async def _answer(self, answer: Answer, group: Sequence[_Waiting]) -> None:
        """Every future of `group` gets a result or an error; who has given up is left out."""
        group = [w for w in group if not w.future.done()]
        if not group:
            return
        began = time.perf_counter()

        def run() -> list[Reply | ReplyError]:
            with self._lock, torch.inference_mode():
                return answer(group)

        task = asyncio.ensure_future(asyncio.to_thread(run))
        await asyncio.wait({task})
        error = task.exception()
        if error is None:
            share = (time.perf_counter() - began) / len(group)
            for waiting, found in zip(group, task.result(), strict=True):
                _settle(waiting, found, share)
        elif not isinstance(error, torch.OutOfMemoryError):
            for waiting in group:
                _settle(waiting, error)
        elif len(group) > 1:
            await self._answer(answer, group[: len(group) // 2])
            await self._answer(answer, group[len(group) // 2 :])
        else:
            n = len(group[0].prompt.ids)
            told = f"the prompt has {n} tokens, and there is no memory for so many: {error}"
            _settle(group[0], PromptTooLong(told[:300], usage=Usage(), again=False))

    # -- answers -------------------------------------------------------------------------------

    def _judge(self, group: Sequence[_Waiting]) -> list[Reply | ReplyError]:
        """Log probabilities of the answers behind each place of each prompt of `group`."""
        found = judging.judged(self._open(), [w.prompt for w in group])
        return [
            Reply(
                answers=() if w.request.slots else rows[-1],
                slots=rows if w.request.slots else (),
                usage=self._usage(w, 0),
                model=self._version,
            )
            for w, rows in zip(group, found, strict=True)
        ]

    def _write(self, group: Sequence[_Waiting]) -> list[Reply | ReplyError]:
        """Text that continues each prompt of `group`."""
        rows = [generating.Row(w.request, w.prompt, w.path) for w in group]
        ends = self._ends()
        generating.write(self._open(), self.tokenizer, ends, rows)
        replies: list[Reply | ReplyError] = []
        for w, row in zip(group, rows, strict=True):
            text = generating.text_of(row, self.tokenizer, ends)
            usage = self._usage(w, len(row.made))
            if row.broken:
                told = f"it could not be held to its schema: {row.broken}"
                replies.append(ReplyError(told, text, usage, again=False))
                continue
            finish = row.finish or "other"
            replies.append(Reply(text=text, finish=finish, usage=usage, model=self._version))
        return replies

    @property
    def _version(self) -> str:
        return f"{self.name}@{self.revision}"

    def _open(self) -> Passes:
        if self._passes is None:
            raise ConfigError(f"{self.name} was closed")
        return self._passes

    def _usage(self, waiting: _Waiting, made: int) -> Usage:
        n = len(waiting.prompt.ids)
        return Usage(calls=1, prompt_tokens=n, completion_tokens=made, cost=0.0)

    def _ends(self) -> set[int]:
        """Tokens that end a reply."""
        settings = self.model.generation_config
        named = settings.eos_token_id if settings is not None else None
        ids = named if isinstance(named, list) else [named]
        return {i for i in [*ids, self.tokenizer.eos_token_id] if isinstance(i, int)}


def _settle(waiting: _Waiting, found: Reply | BaseException | None, seconds: float = 0.0) -> None:
    """Hands `found` to who waits, with the time it took; errors have their usage in them."""
    if waiting.future.done():
        return
    if isinstance(found, Reply):
        usage = replace(found.usage, seconds=seconds)
        waiting.future.set_result(replace(found, usage=usage))
    elif found is not None:
        waiting.future.set_exception(found)
