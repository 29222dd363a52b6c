"""PromptFormat: how a prompt or a conversation becomes the exact text a model was trained on."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal, NoReturn, Self

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, model_validator

from mooring.errors import BrokenSource, InvalidPrompt, UnsupportedParameter
from mooring.generation import Conversation, Message, TemplateOptions
from mooring.generation.thoughts import is_thinking, knows_thoughts
from mooring.spec.template_options import check_options, cut_after
from mooring.spec.tools import CallFormat, call_format_of, template_messages, template_tools

INSTRUCT_INTRODUCTION = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
INSTRUCT_TEMPLATE = "{introduction}\n### Instruction:\n{instruction}\n### Response:\n"

MAX_RENDERED_CHARACTERS = 4_000_000


_USUAL = TemplateOptions()


class PromptFormat(BaseModel):
    """The prompt format of one model: `chat` and `file` carry a Jinja template, others do not.

    `special_tokens` are the names a template may use (`bos_token` and so on). `system` is put in
    front of conversations that bring no system message of their own; the instruct format says it
    in place of its introduction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["chat", "instruct", "plain", "file"]
    template: str | None = None
    system: str | None = None
    special_tokens: dict[str, str] = {}

    @model_validator(mode="after")
    def _check_template(self) -> Self:
        if self.template is not None:
            try:
                _compile(self.template)
            except TemplateSyntaxError as error:
                raise BrokenSource(
                    f"The prompt template is not valid Jinja: {error.message} "
                    f"(line {error.lineno}). Mend it or choose another --prompt."
                ) from None
        elif self.kind in ("chat", "file"):
            raise BrokenSource(f"A {self.kind!r} prompt format needs a template. Given: none.")
        if self.system is not None and self.kind == "plain":
            raise BrokenSource(
                "The plain prompt format has no place for a system text. "
                "Leave --system out or choose --prompt chat, instruct or a Jinja file."
            )
        return self

    @property
    def adds_special_tokens(self) -> bool:
        """Whether the tokenizer must add its begin tokens; templates write their own."""
        return self.template is None

    @property
    def takes_tools(self) -> bool:
        """Whether the model is told of tools: whether its template reads them."""
        return self.template is not None and "tools" in _names(self.template)

    @property
    def call_format(self) -> CallFormat | None:
        """How the model writes calls of tools, None where its template does not tell."""
        return call_format_of(self.template) if self.takes_tools and self.template else None

    @property
    def knows_thoughts(self) -> bool:
        """Whether the model may think before it answers, as far as its template tells."""
        return knows_thoughts(self.template)

    def opens_thought(self, conversation: Conversation) -> bool:
        """Whether the answer to a conversation begins within a thought."""
        if not conversation.options.continues:
            # Only what follows the messages matters, and what else the client says of them.
            last = Message("user", "hello")
            conversation = replace(conversation, messages=(last,), tools=())
        try:
            return is_thinking(self.render_conversation(conversation))
        except InvalidPrompt:
            return False

    def render_conversation(self, conversation: Conversation) -> str:
        """Return the full prompt for a conversation with its tools, or say what has no place."""
        if conversation.tools and not self.takes_tools:
            raise UnsupportedParameter(
                "`tools` are not supported by this model: its prompt format has no place for them. "
                "Leave them out, or package the model with --prompt FILE.jinja.",
                param="tools",
            )
        self._check_calls(conversation.messages)
        names = None if self.template is None else _names(self.template)
        check_options(conversation, names, self.special_tokens)
        tools = template_tools(conversation.tools)
        messages = template_messages(conversation.messages, self.template)
        text = self.render_messages(messages, tools, conversation.options)
        if conversation.options.continues:
            text = cut_after(text, conversation.messages[-1].content)
        return text + conversation.opening

    def _check_calls(self, messages: Sequence[Message]) -> None:
        if self.template is not None and "tool_calls" in self.template:
            return
        for index, message in enumerate(messages):
            if message.tool_calls:
                raise InvalidPrompt(
                    f"`messages[{index}].tool_calls` are not supported by this model: its prompt "
                    "format has no place for them.",
                    param=f"messages[{index}].tool_calls",
                )

    def render_instruction(self, instruction: str) -> str:
        """Return the full prompt for one instruction."""
        match self.kind:
            case "plain":
                return instruction
            case "instruct":
                return INSTRUCT_TEMPLATE.format(
                    introduction=self.system or INSTRUCT_INTRODUCTION, instruction=instruction
                )
            case _:
                return self.render_messages([{"role": "user", "content": instruction}])

    def render_messages(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: list[dict[str, Any]] | None = None,
        options: TemplateOptions = _USUAL,
    ) -> str:
        """Return the full prompt for a conversation; raise `InvalidPrompt` if the format cannot."""
        if not messages:
            raise InvalidPrompt("`messages` must hold at least one message. Given: 0.")
        match self.kind:
            case "plain":
                raise InvalidPrompt(
                    "`messages` need a chat template, and this model has none. Send `prompt`, or "
                    "package the model with --prompt FILE.jinja."
                )
            case "instruct":
                return self._render_single_turn(messages)
            case _:
                return self._render_template(messages, tools, options)

    def _render_single_turn(self, messages: Sequence[Mapping[str, Any]]) -> str:
        roles = [message["role"] for message in messages]
        if roles not in (["user"], ["system", "user"]):
            raise InvalidPrompt(
                "This model's instruct format takes one user message, with at most one system "
                f"message before it: it has no chat template. Given roles: {_listed(roles)}."
            )
        introduction = messages[0]["content"] if len(roles) == 2 else self.system
        return INSTRUCT_TEMPLATE.format(
            introduction=introduction or INSTRUCT_INTRODUCTION,
            instruction=messages[-1]["content"],
        )

    def _render_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: list[dict[str, Any]] | None,
        options: TemplateOptions,
    ) -> str:
        if self.system is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system}, *messages]
        assert self.template is not None
        try:
            text: str = _compile(self.template).render(
                {
                    "messages": list(messages),
                    "add_generation_prompt": options.answers,
                    "tools": tools,
                    "documents": None,
                    **self.special_tokens,
                    **options.values,
                }
            )
        except _TemplateRefusal as refusal:
            raise InvalidPrompt(
                f"The model's chat template refuses these messages: {refusal}"
            ) from None
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError):
            raise InvalidPrompt(
                "The model's chat template cannot render these messages. "
                f"Given roles: {_listed([m['role'] for m in messages])}."
            ) from None
        if len(text) > MAX_RENDERED_CHARACTERS:
            raise InvalidPrompt(
                f"The rendered prompt must have at most {MAX_RENDERED_CHARACTERS} characters. "
                f"Given: {len(text)}."
            )
        return text


def _listed(roles: Sequence[str]) -> str:
    shown = ", ".join(str(role)[:20] for role in roles[:8])
    return shown if len(roles) <= 8 else f"{shown}, ... ({len(roles)} messages)"


class _TemplateRefusal(TemplateError):
    """A template called `raise_exception`: its own words for the caller."""


class _GenerationTag(Extension):
    """Accept `{% generation %}` blocks, which mark answers for training, and render their body."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise _TemplateRefusal(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Write JSON as templates ask for it; unlike Jinja's own filter it escapes nothing for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


@lru_cache(maxsize=32)
def _names(template: str) -> frozenset[str]:
    """Return the names that a template reads."""
    tree = _environment().parse(template)
    return frozenset(name.name for name in tree.find_all(nodes.Name) if name.ctx == "load")


@lru_cache(maxsize=32)
def _compile(template: str) -> Any:
    return _environment().from_string(template)


def _environment() -> ImmutableSandboxedEnvironment:
    """Return the immutable sandbox, with the names that chat templates expect."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment
