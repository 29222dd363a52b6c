"""How `/v1/responses` answers: one object, or the events of its becoming."""

import json
import time
from collections.abc import Sequence
from typing import Any

from mooring.generation import SamplingParams, TextToken
from mooring.protocol.openai.answers import AnswerHead, Choice, EndReason, Usage
from mooring.protocol.openai.response_output import Event, ResponseOutput
from mooring.protocol.openai.responses import ResponseCall
from mooring.protocol.thoughts import ThoughtReader
from mooring.protocol.tool_calls.formats import ToolFormat


class ResponseFormat:
    """The answer to one request; keeps what was said so far."""

    id_prefix = "resp_"
    stream_end = b""

    def __init__(
        self, call: ResponseCall, sampling: SamplingParams, tools: ToolFormat | None
    ) -> None:
        self._call = call
        self._sampling = sampling
        use = call.tool_use
        reader = tools.reader(use, eager=call.stream) if tools and use else None
        thoughts = None if call.thinking is None else ThoughtReader(thinking=call.thinking)
        self._output = ResponseOutput(reader, tools, thoughts)
        self._reason: EndReason = "stop"
        self._sent = 0

    def whole(self, head: AnswerHead, choices: Sequence[Choice], usage: Usage) -> dict[str, Any]:
        """Return a `response`."""
        (choice,) = choices
        self._output.push(choice.text)
        self._end(choice.reason)
        return self._body(head, self._status(), usage)

    def opening(self, head: AnswerHead, index: int) -> list[Event]:
        """Return the events that say that the response has begun."""
        kinds = ("response.created", "response.in_progress")
        return [{"type": kind, "response": self._body(head, "in_progress")} for kind in kinds]

    def delta(self, head: AnswerHead, index: int, text: str) -> list[Event]:
        """Return the events of the next text."""
        return self._output.push(text) if text else []

    def end(self, head: AnswerHead, index: int, reason: EndReason) -> list[Event]:
        """Return the events of what was held back, and of the last item's end."""
        return self._end(reason)

    def logprobs(self, tokens: Sequence[TextToken]) -> dict[str, Any] | None:
        """Return nothing: they cannot be asked for here."""
        return None

    def usage(self, head: AnswerHead, usage: Usage) -> Event:
        """Return the last event, with the whole response."""
        status = self._status()
        return {"type": f"response.{status}", "response": self._body(head, status, usage)}

    def failure(self, head: AnswerHead, error: dict[str, Any]) -> Event:
        """Return the last event of a response that failed; `error` is OpenAI's error object."""
        body = self._body(head, "failed")
        body["error"] = {"code": "server_error", "message": error["error"]["message"]}
        return {"type": "response.failed", "response": body}

    def line(self, event: Event, *, usage: bool) -> bytes:
        """Return one server-sent event with its name and its number."""
        numbered = event | {"sequence_number": self._sent}
        self._sent += 1
        text = json.dumps(numbered, separators=(",", ":"))
        return f"event: {event['type']}\ndata: {text}\n\n".encode("ascii")

    def _end(self, reason: EndReason) -> list[Event]:
        self._reason = reason
        return self._output.finish(whole=reason == "stop")

    def _status(self) -> str:
        return "completed" if self._reason == "stop" else "incomplete"

    def _body(self, head: AnswerHead, status: str, usage: Usage | None = None) -> dict[str, Any]:
        """Return the response as it is now."""
        incomplete = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return {
            "id": head.id,
            "object": "response",
            "created_at": head.created,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "error": None,
            "incomplete_details": incomplete,
            "model": head.model,
            "output": list(self._output.items),
            **({} if usage is None else {"usage": _usage(usage)}),
            **self._asked(),
        }

    def _asked(self) -> dict[str, Any]:
        """Return what the response repeats of the request."""
        asked, sampling = self._call.body, self._sampling
        text = {"format": {"type": "text"}}
        if asked.text is not None and asked.text.format is not None:
            text = {"format": asked.text.format}
        return {
            "background": False,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "max_tool_calls": None,
            "metadata": asked.metadata or {},
            "parallel_tool_calls": asked.parallel_tool_calls is not False,
            "previous_response_id": None,
            "prompt_cache_key": asked.prompt_cache_key,
            "reasoning": {"effort": None, "summary": None},
            "safety_identifier": asked.safety_identifier,
            "service_tier": "default",
            "store": False,
            "temperature": sampling.temperature,
            "text": text,
            "tool_choice": asked.tool_choice or "auto",
            "tools": [_tool(tool.model_dump()) for tool in asked.tools or ()],
            "top_logprobs": 0,
            "top_p": sampling.top_p,
            "truncation": "disabled",
            **({} if asked.user is None else {"user": asked.user}),
        }


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    """Return a tool as it was sent, with all its fields."""
    return tool | {"strict": bool(tool["strict"]), "parameters": tool["parameters"] or {}}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
