"""What we mean: the words that protocol, service and engines share."""

from mooring.generation.events import (
    Event,
    Failed,
    Finished,
    FinishReason,
    PromptRead,
    Started,
    Text,
    Token,
)
from mooring.generation.golden import Golden, GoldenAnswer, GoldenStep
from mooring.generation.grammar import GRAMMAR_KINDS, JSON_WHITESPACE, Grammar, GrammarKind
from mooring.generation.logprobs import (
    LEAST_LOGPROB,
    MAX_TOP_LOGPROBS,
    NO_LOGPROBS,
    Likelihood,
    LogprobsWanted,
    RivalToken,
    TextToken,
)
from mooring.generation.requests import (
    Conversation,
    GenerationRequest,
    Instruction,
    Message,
    PromptInput,
    RawText,
    TemplateOptions,
    TextRequest,
    TokenIds,
    Tool,
    ToolCall,
)
from mooring.generation.sampling import SAMPLING_FIELDS, SamplingField, SamplingParams
from mooring.generation.tokenizer import Tokenizer

__all__ = [
    "GRAMMAR_KINDS",
    "JSON_WHITESPACE",
    "LEAST_LOGPROB",
    "MAX_TOP_LOGPROBS",
    "NO_LOGPROBS",
    "SAMPLING_FIELDS",
    "Conversation",
    "Event",
    "Failed",
    "FinishReason",
    "Finished",
    "GenerationRequest",
    "Golden",
    "GoldenAnswer",
    "GoldenStep",
    "Grammar",
    "GrammarKind",
    "Instruction",
    "Likelihood",
    "LogprobsWanted",
    "Message",
    "PromptInput",
    "PromptRead",
    "RawText",
    "RivalToken",
    "SamplingField",
    "SamplingParams",
    "Started",
    "TemplateOptions",
    "Text",
    "TextRequest",
    "TextToken",
    "Token",
    "TokenIds",
    "Tokenizer",
    "Tool",
    "ToolCall",
]
