"""The calls of Hermes, Qwen and many others: `<tool_call>{...}</tool_call>`."""

from mooring.protocol.tool_calls.parser import CallParser


class HermesParser(CallParser):
    """Reads an object with `name` and `arguments` between two tags; the second may be missing."""

    markers = ("<tool_call>",)
    closing = "</tool_call>"
