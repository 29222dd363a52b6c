"""Reads prompts as the model will: renders, tokenizes, fits them into its context."""

from dataclasses import dataclass, replace

from mooring.engines.contract import Capabilities
from mooring.errors import ContextExceeded, InvalidParameter, InvalidPrompt
from mooring.generation import (
    Conversation,
    Instruction,
    PromptInput,
    RawText,
    SamplingParams,
    TextRequest,
    TokenIds,
    Tokenizer,
)
from mooring.settings import ServiceLimits
from mooring.spec.prompt import PromptFormat


@dataclass(frozen=True, slots=True)
class ReadPrompt:
    """The exact text that the model sees, None for token ids; and its token ids."""

    text: str | None
    token_ids: tuple[int, ...]


class PromptReader:
    """Reads prompts for one model; its methods may be called from any thread."""

    def __init__(
        self,
        capabilities: Capabilities,
        tokenizer: Tokenizer,
        prompt_format: PromptFormat,
        limits: ServiceLimits,
    ) -> None:
        self._capabilities = capabilities
        self._tokenizer = tokenizer
        self._prompt_format = prompt_format
        self._limits = limits

    def render(self, prompt: PromptInput) -> str | None:
        """Return the exact text the model will see, or None for token ids."""
        match prompt:
            case Instruction(text):
                _check_text(text)
                return self._prompt_format.render_instruction(text)
            case Conversation(messages):
                self._check_messages(len(messages))
                return self._prompt_format.render_conversation(prompt)
            case RawText(text):
                return text
            case TokenIds():
                return None

    def read(self, prompt: PromptInput, add_special_tokens: bool | None = None) -> ReadPrompt:
        """As `tokenized`, what is to be answered; raise `InvalidPrompt` also for what is empty."""
        if isinstance(prompt, RawText):
            _check_text(prompt.text)
        read = self.tokenized(prompt, add_special_tokens)
        if not read.token_ids:
            raise InvalidPrompt("The prompt must have at least one token. Given: none.")
        return read

    def tokenized(self, prompt: PromptInput, add_special_tokens: bool | None = None) -> ReadPrompt:
        """Render and tokenize; raise `InvalidPrompt` where that is impossible.

        `add_special_tokens` says whether the tokenizer adds its own, None for what answers do.
        """
        text = self.render(prompt)
        if text is None:
            assert isinstance(prompt, TokenIds)
            return ReadPrompt(None, self.checked(prompt.ids))
        _check_unicode(text)
        add = add_special_tokens
        if add is None:
            add = isinstance(prompt, RawText) or self._prompt_format.adds_special_tokens
        return ReadPrompt(text, tuple(self._tokenizer.encode(text, add_special_tokens=add)))

    def checked(self, ids: tuple[int, ...], field: str = "prompt") -> tuple[int, ...]:
        """Return token ids that the model has; raise `InvalidPrompt` naming `field` for others."""
        limit = self._capabilities.vocabulary_size
        for token in ids:
            if not 0 <= token < limit:
                raise InvalidPrompt(
                    f"`{field}` must hold token ids >= 0 and < {limit}. Given: {token}. "
                    "Use this model's own tokenizer.",
                    param=field,
                )
        return ids

    def shortened(self, read: ReadPrompt, request: TextRequest) -> ReadPrompt:
        """Leave out the beginning of a prompt that is longer than its client wants it read."""
        most, context = request.most_prompt_tokens, self._capabilities.context_length
        if most is None:
            return read
        if most > context:
            raise InvalidParameter(
                f"`truncate_prompt_tokens` must be <= {context}, the model's context. "
                f"Given: {most}.",
                param="truncate_prompt_tokens",
            )
        if most == -1:
            most = max(context - (request.sampling.max_tokens or 1), context // 2)
        if len(read.token_ids) <= most:
            return read
        return ReadPrompt(None, read.token_ids[-most:])

    def fitted(self, prompt_tokens: int, sampling: SamplingParams) -> SamplingParams:
        """Return the parameters with `max_tokens` set to what the context leaves at most."""
        context = self._capabilities.context_length
        room = context - prompt_tokens
        if room < (0 if sampling.max_tokens == 0 else 1):
            raise ContextExceeded(
                f"The prompt must have fewer than {context} tokens, the model's context. "
                f"Given: {prompt_tokens}. Shorten it."
            )
        asked = room if sampling.max_tokens is None else sampling.max_tokens
        most = min(room, asked)
        if sampling.min_tokens > most:
            raise InvalidParameter(
                f"`min_tokens` must be <= {most}, what `max_tokens` and the context leave for the "
                f"answer. Given: {sampling.min_tokens}. Lower it.",
                param="min_tokens",
            )
        return replace(sampling, max_tokens=most)

    def _check_messages(self, given: int) -> None:
        limit = self._limits.max_messages
        if given > limit:
            raise InvalidPrompt(
                f"`messages` must hold at most {limit} messages. Given: {given}.", param="messages"
            )


def _check_text(text: str) -> None:
    if not text:
        raise InvalidPrompt("`prompt` must not be empty.", param="prompt")


def _check_unicode(text: str) -> None:
    """Refuse half characters, which come of bytes that are not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidPrompt(
            "The prompt must be valid Unicode. Given: text with half of a surrogate pair. "
            "Send it as UTF-8."
        ) from None
