"""What a client may say of how its messages are rendered, and whether a model can do it."""

from collections.abc import Collection

from mooring.errors import InvalidPrompt, UnsupportedParameter
from mooring.generation import Conversation

_OWN = frozenset({"messages", "tools", "add_generation_prompt"})


def check_options(
    conversation: Conversation, names: Collection[str] | None, special: Collection[str]
) -> None:
    """Raise an `InvalidInput` that names what cannot be done.

    `names` are those that the model's template reads, None where it has no template; `special` are
    its special tokens, which no client may change.
    """
    options = conversation.options
    if names is None:
        _check_without_template(conversation)
    for name in options.values:
        if name in _OWN or name in special or name not in (names or ()):
            field = name if name == "documents" else f"chat_template_kwargs.{name[:40]}"
            raise UnsupportedParameter(
                f"`{field}` is not supported: the model's chat template reads no such value from "
                "clients. Leave it out.",
                param=field,
            )
    if options.continues and (
        conversation.messages[-1].role != "assistant" or not conversation.messages[-1].content
    ):
        raise InvalidPrompt(
            "`continue_final_message` needs an assistant message with text at the end of "
            "`messages`.",
            param="continue_final_message",
        )


def _check_without_template(conversation: Conversation) -> None:
    options, given = conversation.options, ""
    if options.continues or not options.answers:
        given = "continue_final_message" if options.continues else "add_generation_prompt"
    for index, message in enumerate(conversation.messages):
        if message.name is not None and message.role != "tool":
            given = f"messages[{index}].name"
    if given:
        raise UnsupportedParameter(
            f"`{given}` is not supported by this model: it has no chat template. Leave it out.",
            param=given,
        )


def cut_after(text: str, content: str) -> str:
    """Return a rendered prompt up to the end of its last message, `content`.

    Raises `InvalidPrompt` where the template has not written the message as it is.
    """
    for written in (content, content.strip()):
        at = text.rfind(written)
        if written and at >= 0:
            return text[: at + len(written)]
    raise InvalidPrompt(
        "`continue_final_message` is not possible: the model's chat template changes the last "
        "message.",
        param="continue_final_message",
    )
