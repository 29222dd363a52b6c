"""What the server says of itself: every route is in it, with its fields and bounds."""

import re
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.responses import Response
from starlette.routing import Route

from mooring.generation import SAMPLING_FIELDS
from mooring.http.app import create_app
from mooring.http.openapi import openapi_document
from mooring.service.host import ModelHost
from mooring.settings import AccessSettings, ApiKey, ServerSettings, ServiceLimits
from tests.http.serving import IDENTITY, Running


def document(settings: ServerSettings | None = None) -> dict[str, Any]:
    settings = settings or ServerSettings(port=0)
    return openapi_document(routes(settings), settings, ("demo",))


def routes(settings: ServerSettings) -> list[Route]:
    found = create_app(ModelHost(IDENTITY), settings).routes
    assert all(isinstance(route, Route) for route in found)
    return [route for route in found if isinstance(route, Route)]


def test_every_route_is_described_and_nothing_else(echo: Running) -> None:
    with echo.client as client:
        served = client.get("/openapi.json").json()
    described = {(path, method) for path, item in served["paths"].items() for method in item}
    settings = ServerSettings(port=0)
    existing = {
        (re.sub(r":\w+}", "}", route.path), method.lower())
        for route in routes(settings)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert described == existing
    assert len(existing) >= 12


def test_a_route_that_is_not_described_stops_the_server() -> None:
    with pytest.raises(KeyError, match="/v1/forgotten"):
        openapi_document(
            [Route("/v1/forgotten", Response, methods=["GET"])], ServerSettings(), ("demo",)
        )


def test_the_document_is_valid_openapi() -> None:
    guarded = AccessSettings(keys=(ApiKey("a", "0" * 64),))
    for settings in (ServerSettings(), ServerSettings(access=guarded)):
        OpenAPIV31SpecValidator(document(settings)).validate()


def test_keys_are_described_where_there_are_any() -> None:
    guarded = ServerSettings(access=AccessSettings(keys=(ApiKey("a", "0" * 64),)))
    chat = document(guarded)["paths"]["/v1/chat/completions"]["post"]
    assert chat["security"] == [{"bearer": []}, {"key": []}]
    assert "401" in chat["responses"]
    health = document(guarded)["paths"]["/health"]["get"]
    assert ("security" in health, list(health["responses"])) == (False, ["200"])
    assert "security" not in document()["paths"]["/v1/chat/completions"]["post"]


def test_fields_are_described_with_their_bounds() -> None:
    settings = ServerSettings(limits=ServiceLimits(max_n=2, max_messages=5))
    body = document(settings)["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["model", "messages"]
    fields = schema["properties"]
    assert {field.name for field in SAMPLING_FIELDS} <= set(fields)
    assert (fields["n"]["maximum"], fields["messages"]["maxItems"]) == (2, 5)
    assert (fields["temperature"]["minimum"], fields["temperature"]["maximum"]) == (0, 2)
    assert fields["top_p"]["exclusiveMinimum"] == 0
    assert fields["store"] == {"enum": [None, False]}
