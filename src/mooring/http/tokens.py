"""The routes that show what a model reads: `/tokenize` and `/detokenize`."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mooring.http.access import caller_of
from mooring.http.bodies import JSON, read_body
from mooring.protocol.openai.logprobs import shown
from mooring.protocol.tokens import parse_detokenize, parse_tokenize, tokenized_body
from mooring.service.host import ModelHost
from mooring.settings import ServerSettings


class TokenRoutes:
    """Turns text into tokens and back, with one model's tokenizer."""

    def __init__(self, host: ModelHost, settings: ServerSettings) -> None:
        self._host = host
        self._settings = settings

    async def tokenize(self, request: Request) -> Response:
        """Answer `POST /tokenize`."""
        _, body = await read_body(request, (JSON,), self._settings.server)
        service = self._host.service
        call = parse_tokenize(body)
        self._check_name(request, call.model)
        read = await service.tokenized(call.prompt, add_special_tokens=call.add_special_tokens)
        raw = service.token_bytes(read.token_ids) if call.with_texts else None
        texts = None if raw is None else [shown(one) for one in raw]
        context = service.capabilities.context_length
        return JSONResponse(tokenized_body(read.token_ids, context, texts))

    async def detokenize(self, request: Request) -> Response:
        """Answer `POST /detokenize`."""
        _, body = await read_body(request, (JSON,), self._settings.server)
        service = self._host.service
        call = parse_detokenize(body)
        self._check_name(request, call.model)
        return JSONResponse({"prompt": await service.text_of(call.token_ids)})

    def _check_name(self, request: Request, model: str | None) -> None:
        """Check the name that a client gives; one that gives none means whichever there is."""
        caller = caller_of(request.scope)
        if model is None:
            caller.check_models(self._host.identity.served_names)
        else:
            self._host.check_name(model)
            caller.check_models((model,))
