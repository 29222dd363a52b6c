"""What an answer has to be: a language that its text keeps to from the first token on."""

from dataclasses import dataclass, field
from typing import Literal, get_args

GrammarKind = Literal["json_object", "json_schema", "regex", "lark", "choice"]
GRAMMAR_KINDS: tuple[GrammarKind, ...] = get_args(GrammarKind)

JSON_WHITESPACE = r" |\n {0,40}"
"""What may stand between the parts of JSON: one space, or a new line with what it is indented by,
so that no model can fill an answer with it.
"""


@dataclass(frozen=True, slots=True)
class Grammar:
    """The language of an answer: every token keeps to it, and the answer ends where it ends.

    `source` is, by `kind`: empty (`json_object`), a JSON schema as JSON text, a regular expression
    that the whole answer matches, a grammar in Lark's notation, or a JSON list of strings of which
    the answer is one (`choice`). `param` names the field of the request that it came from.
    """

    kind: GrammarKind
    source: str = ""
    param: str = field(default="response_format", compare=False)
