"""Chooses the prompt format: the one that was asked for, or the one the tokenizer brings."""

import os
from pathlib import Path
from typing import Literal

from mooring.errors import BrokenSource, SourceNotFound
from mooring.packaging.tokenizer_files import chat_template, read_text, special_tokens
from mooring.spec.model_spec import ModelSpec
from mooring.spec.prompt import PromptFormat


def choose_prompt_format(snapshot_path: Path, spec: ModelSpec) -> PromptFormat:
    """Return the prompt format of a model.

    Raises `BrokenSource` where the tokenizer has no chat template or a template is not valid, and
    `SourceNotFound` for a template file that does not exist.
    """
    template = chat_template(snapshot_path)
    match spec.prompt:
        case "auto" if template is None:
            return PromptFormat(kind="plain", system=spec.system)
        case "auto" | "chat":
            if template is None:
                raise BrokenSource(
                    "--prompt chat needs a chat template, and this model's tokenizer has none. "
                    "Choose --prompt instruct, plain or a Jinja file."
                )
            return _templated("chat", template, snapshot_path, spec)
        case "instruct":
            return PromptFormat(kind="instruct", system=spec.system)
        case "plain":
            return PromptFormat(kind="plain", system=spec.system)
    return _templated("file", _template_file(spec.prompt), snapshot_path, spec)


def _templated(
    kind: Literal["chat", "file"], template: str, snapshot_path: Path, spec: ModelSpec
) -> PromptFormat:
    return PromptFormat(
        kind=kind,
        template=template,
        system=spec.system,
        special_tokens=special_tokens(snapshot_path),
    )


def _template_file(name: str) -> str:
    path = os.path.expanduser(name)
    if not os.path.isfile(path):
        raise SourceNotFound(
            "`prompt` must be auto, chat, instruct, plain or the path of a Jinja file. "
            f"Given: {name[:200]!r}, and there is no such file. Check the path.",
            param="prompt",
        )
    return read_text(Path(path))
