"""What is asked: a text request as a caller means it, a generation request as engines see it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mooring.generation.grammar import Grammar
from mooring.generation.logprobs import NO_LOGPROBS, LogprobsWanted
from mooring.generation.sampling import SamplingParams


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a function that a model has made; `arguments` is the text of a JSON object."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that a model may call; `parameters` is a JSON schema of its arguments.

    With `strict` what the model writes as arguments must keep to it.
    """

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation.

    A model's turn may make `tool_calls`; a turn of the role `tool` is the result of the call
    `tool_call_id` of the function `name`. Of other roles `name` says who speaks. `thought` is what
    a model thought before it said `content`.
    """

    role: str
    content: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    thought: str | None = None


@dataclass(frozen=True, slots=True)
class Instruction:
    """A prompt to be rendered with the model's prompt format."""

    text: str


@dataclass(frozen=True, slots=True)
class TemplateOptions:
    """What a client may say of how its messages are rendered.

    With `answers` the prompt ends where the model's answer begins; with `continues` it ends inside
    the last message, which the answer goes on with. `values` are names that the template reads.
    """

    answers: bool = True
    continues: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages to be rendered with the model's prompt format, and the tools it is told of.

    `opening` is the beginning of the answer, said for the model.
    """

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()
    opening: str = ""
    options: TemplateOptions = field(default_factory=TemplateOptions)


@dataclass(frozen=True, slots=True)
class RawText:
    """A prompt taken as it is, unrendered."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenIds:
    """A prompt given as token ids."""

    ids: tuple[int, ...]


PromptInput = Instruction | Conversation | RawText | TokenIds


@dataclass(frozen=True, slots=True)
class TextRequest:
    """One question with its sampling parameters; answered by `sampling.n` completions.

    With a `grammar` each of them keeps to it. `marks` are special tokens whose text is part of the
    answer's; that of others is not. With `echo` each completion begins with the prompt, or with the
    model's last message in a conversation, and may have no token of its own (`sampling.max_tokens`
    = 0). Of a longer prompt only the last
    `most_prompt_tokens` are read; -1 leaves room for the answer, but at most half the context.
    With `needs_ids` the answer's token ids are told too. `add_special_tokens` says whether the
    tokenizer adds its own to the prompt, None for what the model's prompt format says. What is read
    of the prompt is reused for callers who give the same `cache_salt` alone.
    """

    prompt: PromptInput
    sampling: SamplingParams = field(default_factory=SamplingParams)
    grammar: Grammar | None = None
    marks: tuple[str, ...] = ()
    logprobs: LogprobsWanted = NO_LOGPROBS
    echo: bool = False
    most_prompt_tokens: int | None = None
    needs_ids: bool = False
    add_special_tokens: bool | None = None
    cache_salt: str = ""


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One sequence for an engine: token ids in, token ids out.

    `id` is unique within the engine. `sampling.max_tokens` is set and fits the context with the
    prompt; 0 reads the prompt only, for its log-probabilities. `sampling.n` and `sampling.stop` are
    the service's concern and ignored by engines.
    `generated_ids` is the beginning of the answer where it was generated before: engines send only
    what follows, chosen as if they had generated the whole; `sampling.max_tokens` counts both.
    Engines reuse what they have read for others only for requests of the same `cache_scope`.
    None of the `banned` sequences of tokens is ever completed by a token of the answer.
    With a `grammar` the generated text keeps to it; its end is the end of the sequence, `stop`.
    With `needs_ids` the answer is wanted as token ids, even from an engine that otherwise says text
    and can send ids only all at once.
    """

    id: str
    prompt_ids: tuple[int, ...]
    sampling: SamplingParams
    generated_ids: tuple[int, ...] = ()
    cache_scope: str = ""
    grammar: Grammar | None = None
    logprobs: LogprobsWanted = NO_LOGPROBS
    needs_ids: bool = False
    banned: tuple[tuple[int, ...], ...] = ()

    @property
    def input_ids(self) -> tuple[int, ...]:
        """What a model reads first: the prompt, and what was generated before."""
        return self.prompt_ids + self.generated_ids
