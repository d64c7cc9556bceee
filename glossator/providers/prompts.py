"""Requests in the tokens of a local model, through its chat template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Literal

from jinja2.exceptions import TemplateError

from glossator.errors import ConfigError, PromptTooLong, ReplyError
from glossator.llm import Message, Request
from glossator.types import Usage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Prompt:
    """A request in tokens."""

    ids: tuple[int, ...]
    places: tuple[int, ...] = ()
    """Positions in `ids` behind which the answers' probabilities are wanted."""
    answers: tuple[tuple[int, ...], ...] = ()
    """The answers in tokens."""


@dataclass(frozen=True)
class Prompts:
    """Makes prompts for one model."""

    name: str
    """Of the model, for messages."""
    tokenizer: PreTrainedTokenizerBase
    limit: int
    """Most tokens of a prompt and its reply together."""

    def of(self, request: Request) -> Prompt:
        """`request` in tokens, cut at its slots so that each ends where a token ends.

        Raises:
            PromptTooLong: if there are more than the model takes.
            ReplyError: if a slot's text is not in the prompt, or the template refuses the messages.
            ConfigError: if an answer is empty.
        """
        specials = self._specials
        said = [Message(m.role, defused(m.content, specials)) for m in request.messages]
        text = self._templated(said) + request.prefill
        ids: list[int] = []
        places = []
        last = said[-1].content if said else ""
        for piece in self._pieces(text, last, request.slots, specials):
            ids += self.encode(piece)
            places.append(len(ids) - 1)
        if not ids:
            raise ReplyError(f"{self.name} is given an empty prompt", again=False)
        answers = tuple(map(self._answer, request.answers))
        more = request.max_tokens or max(map(len, answers), default=0)
        if len(ids) + more > self.limit:
            raise PromptTooLong(
                f"the prompt has {len(ids)} tokens and up to {more} may follow; {self.name} takes "
                f"{self.limit}",
                usage=Usage(),
                again=False,
            )
        return Prompt(tuple(ids), tuple(places), answers)

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`, with none added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def _templated(self, messages: Sequence[Message]) -> str:
        """`messages` as one text; as turns of user and assistant where only those are taken."""
        try:
            return self._as_text(messages)
        except TemplateError:
            pass
        try:
            return self._as_text(alternating(messages))
        except TemplateError as error:
            raise ReplyError(
                f"the chat template of {self.name} refuses these messages: {error}", again=False
            ) from error

    def _as_text(self, messages: Sequence[Message]) -> str:
        text = self.tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in messages],
            add_generation_prompt=True,
            tokenize=False,
        )
        if not isinstance(text, str):
            raise ReplyError("the chat template gave no text", again=False)
        return text

    def _answer(self, answer: str) -> tuple[int, ...]:
        found = self._encoded(answer)
        if not found:
            raise ConfigError(f"{answer!r} is no answer: it has no tokens")
        return found

    @cached_property
    def _encoded(self) -> Callable[[str], tuple[int, ...]]:
        """Answers are few, and come with every prompt."""
        return lru_cache(maxsize=1024)(lambda answer: tuple(self.encode(answer)))

    @staticmethod
    def _pieces(text: str, last: str, slots: Sequence[str], specials: Sequence[str]) -> list[str]:
        if not slots:
            return [text]
        # Some templates strip what they are given.
        at = text.rfind(last.strip())
        if at < 0:
            raise ReplyError("the chat template left the last message out, or changed it")
        pieces = []
        begin = 0
        for wanted in slots:
            slot = defused(wanted, specials)
            found = text.find(slot, at)
            if found < 0:
                raise ReplyError(f"the slot {slot!r} is not in the prompt")
            at = found + len(slot)
            pieces.append(text[begin:at])
            begin = at
        return pieces

    @cached_property
    def _specials(self) -> list[str]:
        """Special tokens as text: in a message, nobody may say them."""
        added = self.tokenizer.added_tokens_decoder.values()
        return sorted({t.content for t in added if t.special and len(t.content.strip()) > 1})


def defused(text: str, specials: Sequence[str]) -> str:
    """`text` without special tokens: what is quoted in a message cannot end that message."""
    for special in specials:
        text = text.replace(special, f"{special[0]} {special[1:]}")
    return text


def alternating(messages: Sequence[Message]) -> list[Message]:
    """`messages` as turns of user and assistant, the user first; what the system says is in those.

    Neighbours of one role are one turn.
    """
    turns: list[Message] = []
    for message in messages:
        role: Literal["user", "assistant"] = "user"
        if message.role == "assistant":
            role = "assistant"
        if turns and turns[-1].role == role:
            turns[-1] = Message(role, f"{turns[-1].content}\n\n{message.content}")
        else:
            turns.append(Message(role, message.content))
    return turns
