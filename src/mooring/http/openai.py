"""The OpenAI routes: models, chat completions, completions and responses."""

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from typing import Any, TypeVar
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mooring.generation import Conversation
from mooring.http.access import caller_of
from mooring.http.answering import Answered, begin, complete
from mooring.http.bodies import JSON, read_body
from mooring.http.disconnect import unless_client_leaves
from mooring.http.identification import record_of
from mooring.http.streaming import EventStream, StreamPlan
from mooring.protocol.openai.answers import (
    AnswerFormat,
    AnswerHead,
    Choice,
    Usage,
    model_body,
    model_list,
)
from mooring.protocol.openai.chat import parse_chat
from mooring.protocol.openai.chat_answers import ChatFormat
from mooring.protocol.openai.chat_thought_answers import ChatThoughtFormat
from mooring.protocol.openai.chat_tool_answers import ChatToolFormat
from mooring.protocol.openai.completion_answers import CompletionFormat
from mooring.protocol.openai.completions import parse_completion
from mooring.protocol.openai.fields import OpenAICall
from mooring.protocol.openai.response_answers import ResponseFormat
from mooring.protocol.openai.responses import ResponseCall, parse_response
from mooring.protocol.openai.told_tokens import tell_ids, tell_prompt, tell_stop, told_prompt
from mooring.protocol.thoughts import MARKS
from mooring.protocol.tokens import rendered_body
from mooring.protocol.tool_calls.asking import with_tools
from mooring.protocol.tool_calls.formats import ToolFormat, chosen_format
from mooring.service.host import ModelHost
from mooring.service.text_service import TextService
from mooring.settings import ServerSettings

AnyCall = TypeVar("AnyCall", bound=OpenAICall)


class OpenAIRoutes:
    """Answers OpenAI's clients with one model."""

    def __init__(self, host: ModelHost, settings: ServerSettings) -> None:
        self._host = host
        self._settings = settings

    async def models(self, request: Request) -> Response:
        """Answer `GET /v1/models`; refused until the model can answer."""
        self._host.check_ready()
        identity = self._host.identity
        caller = caller_of(request.scope)
        names = [name for name in identity.served_names if caller.may_use(name)]
        return JSONResponse(model_list([self._model(name) for name in names]))

    async def model(self, request: Request) -> Response:
        """Answer `GET /v1/models/{id}`."""
        self._host.check_ready()
        name = request.path_params["id"]
        self._host.check_name(name)
        caller_of(request.scope).check_models((name,))
        return JSONResponse(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        context = self._host.service.capabilities.context_length
        return model_body(name, self._host.identity.created, context)

    async def chat_completions(self, request: Request) -> Response:
        """Answer `POST /v1/chat/completions`."""
        return await self._answer(request, self._parse_chat, self._chat_format)

    async def render_chat(self, request: Request) -> Response:
        """Answer `POST /v1/chat/completions/render`: the prompt that such a body makes."""
        call = await self._call(request, self._parse_chat)
        service = self._host.service
        service.sampling(call.parameters)
        read = await service.read(call.prompts[0], add_special_tokens=call.add_special_tokens)
        context = service.capabilities.context_length
        return JSONResponse(rendered_body(read.text or "", read.token_ids, context))

    async def completions(self, request: Request) -> Response:
        """Answer `POST /v1/completions`."""
        return await self._answer(request, parse_completion, _completion_format)

    async def responses(self, request: Request) -> Response:
        """Answer `POST /v1/responses`."""
        return await self._answer(request, self._parse_response, self._response_format)

    def _parse_chat(self, body: bytes) -> OpenAICall:
        call = self._with_thoughts(parse_chat(body))
        if call.tool_use is None:
            return call
        return with_tools(
            call, self._tools(call), self._host.service.special, strict="function.strict"
        )

    def _chat_format(self, call: OpenAICall) -> AnswerFormat:
        tools = self._tools(call)
        answers = ChatFormat(by_id=call.tokens_by_id)
        if call.tool_use is not None and tools is not None:
            answers = ChatToolFormat(tools, call.tool_use, by_id=call.tokens_by_id)
        if call.thinking is None:
            return answers
        return ChatThoughtFormat(answers, thinking=call.thinking, told=call.tells_thoughts)

    def _with_thoughts(self, call: AnyCall) -> AnyCall:
        """Say whether thoughts are read; an answer that keeps to a form from the start has none."""
        setting, service = self._settings.reasoning_format, self._host.service
        reads = setting == "think" or (setting == "auto" and service.knows_thoughts)
        kept = call.grammar is not None or (call.tool_use and call.tool_use.mode == "required")
        (prompt,) = call.prompts
        if not reads or kept or not isinstance(prompt, Conversation):
            return call
        thinking = service.opens_thought(prompt)
        return replace(call, thinking=thinking, marks=(*call.marks, *MARKS))

    def _parse_response(self, body: bytes) -> ResponseCall:
        call = self._with_thoughts(parse_response(body))
        if call.tool_use is None:
            return call
        return with_tools(call, self._tools(call), self._host.service.special, strict="strict")

    def _response_format(self, call: ResponseCall) -> AnswerFormat:
        sampling = self._host.service.sampling(call.parameters)
        return ResponseFormat(call, sampling, self._tools(call))

    def _tools(self, call: OpenAICall) -> ToolFormat | None:
        """Return how the model writes calls, None where the request wants none or none are read."""
        if call.tool_use is None:
            return None
        return chosen_format(self._settings.tool_format, self._host.service.call_format)

    async def _answer(
        self,
        request: Request,
        parse: Callable[[bytes], AnyCall],
        format_of: Callable[[AnyCall], AnswerFormat],
    ) -> Response:
        call = await self._call(request, parse)
        service, caller = self._host.service, caller_of(request.scope)
        record = record_of(request.scope)
        format = format_of(call)
        head = self._head(format, call)
        if not call.stream:
            work = complete(service, call, caller, record)
            answered = await unless_client_leaves(request.receive, work)
            return JSONResponse(_whole(service, format, head, call, answered))
        beginning = begin(service, call, caller, record)
        begun = await unless_client_leaves(request.receive, beginning)
        plan = StreamPlan(
            format,
            head,
            call.include_usage,
            call.usage_so_far,
            call.needs_ids,
            self._settings.server.max_buffered_events,
        )
        return EventStream(plan, begun, record)

    async def _call(self, request: Request, parse: Callable[[bytes], AnyCall]) -> AnyCall:
        """Read and check a body; refused until the model can answer."""
        _, body = await read_body(request, (JSON,), self._settings.server)
        self._host.check_ready()
        call = parse(body)
        self._host.check_name(call.model)
        caller_of(request.scope).check_models((call.model,))
        record = record_of(request.scope)
        record.asked_model, record.stream = call.model, call.stream
        return call

    def _head(self, format: AnswerFormat, call: OpenAICall) -> AnswerHead:
        return AnswerHead(
            id=f"{format.id_prefix}{call.request_id or uuid4().hex}",
            created=int(time.time()),
            model=call.model,
            fingerprint=self._host.identity.fingerprint,
        )


def _whole(
    service: TextService,
    format: AnswerFormat,
    head: AnswerHead,
    call: OpenAICall,
    answered: Answered,
) -> dict[str, Any]:
    usage = Usage(answered.prompt_tokens, answered.completion_tokens, answered.cached_tokens)
    completions = list(chain(*answered.completions))
    choices = [Choice(one.text, one.reason, one.logprobs) for one in completions]
    body = format.whole(head, choices, usage)
    for index, one in enumerate(completions):
        tell_stop(body, index, one.stopped_by)
    prompts = [
        ids
        for ids, answers in zip(answered.prompt_ids, answered.completions, strict=True)
        for _ in answers
    ]
    if call.needs_ids:
        tell_ids(body, prompts, [one.token_ids for one in completions])
    if call.prompt_logprobs is not None:
        for index, (ids, one) in enumerate(zip(prompts, completions, strict=True)):
            tokens = service.told_prompt(ids, one.prompt)
            told = told_prompt(tokens, call.prompt_logprobs)
            tell_prompt(body, index, "prompt_logprobs", told)
    return body


def _completion_format(call: OpenAICall) -> AnswerFormat:
    return CompletionFormat(by_id=call.tokens_by_id)
