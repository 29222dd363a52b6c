"""What we mean: the words that protocol, service and engines share."""

from mooring.generation.events import Event, Failed, Finished, FinishReason, Started, Text, Token
from mooring.generation.golden import Golden, GoldenAnswer, GoldenStep
from mooring.generation.grammar import GRAMMAR_KINDS, Grammar, GrammarKind
from mooring.generation.requests import (
    Conversation,
    GenerationRequest,
    Instruction,
    Message,
    PromptInput,
    RawText,
    TextRequest,
    TokenIds,
    Tool,
    ToolCall,
)
from mooring.generation.sampling import SAMPLING_FIELDS, SamplingField, SamplingParams
from mooring.generation.tokenizer import Tokenizer

__all__ = [
    "GRAMMAR_KINDS",
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
    "Message",
    "PromptInput",
    "RawText",
    "SamplingField",
    "SamplingParams",
    "Started",
    "Text",
    "TextRequest",
    "Token",
    "TokenIds",
    "Tokenizer",
    "Tool",
    "ToolCall",
]
