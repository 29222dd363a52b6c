"""What the server says of itself is true: every route is in it, and made-up requests keep to it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from starlette.responses import Response
from starlette.routing import Route

from mooring.engines.echo import EchoSettings
from mooring.generation import SAMPLING_FIELDS
from mooring.http.app import create_app
from mooring.http.openapi import openapi_document
from mooring.http.openapi.operations import OPERATIONS
from mooring.service.host import ModelHost
from mooring.settings import AccessSettings, ApiKey, ServerLimits, ServerSettings, ServiceLimits
from tests.http.serving import IDENTITY, PATIENCE, Running, running_server
from tests.http.test_tools import saying

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "negative_data_rejection",
    "unsupported_method",
)  # fmt: skip


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


@pytest.mark.parametrize("opened", [False, True])
def test_what_is_open_is_described_as_open(opened: bool) -> None:
    """The routes that answer without a key are those that the document shows without one."""
    access = AccessSettings(keys=(ApiKey("a", "0" * 64),), open_metrics=opened)
    settings = ServerSettings(port=0, access=access, server=ServerLimits(drain_seconds=PATIENCE))
    with running_server(settings=settings) as running, running.client as client:
        for path, item in document(settings)["paths"].items():
            for method, operation in item.items():
                status = client.request(method, path).status_code
                assert (status == 401) is ("security" in operation), path
                assert (status == 401) is ("401" in operation["responses"]), path


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


def test_made_up_requests_keep_to_the_document(tmp_path: Path) -> None:
    """Schemathesis asks a real server what its document allows, and what it does not."""
    examples = os.environ.get("FUZZ_SCHEMA", "25")
    limits = ServerLimits(drain_seconds=PATIENCE)
    settings = ServerSettings(port=0, server=limits)
    engine = EchoSettings(context_length=4096)
    with running_server(engine, settings, prompt_format=saying("<tool_call>")) as running:
        described = tmp_path / "openapi.json"
        with running.client as client:
            described.write_bytes(client.get("/openapi.json").content)
        command = [
            # From a file: of a document at an address, that address itself is left out.
            sys.executable, "-m", "schemathesis.cli", "run", str(described), "--url", running.url,
            "--checks", ",".join(CHECKS), "--max-examples", examples, "--seed", "1",
            "--phases", "examples,fuzzing", "--mode", "all", "--request-timeout", "10",
            "--no-color", "--generation-database", "none", "--suppress-health-check", "all",
        ]  # fmt: skip
        shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
        assert shown.returncode == 0, shown.stdout[-6000:] + shown.stderr[-2000:]
        every = len(OPERATIONS)
        assert re.search(rf"Tested:\s+{every}\b", shown.stdout), shown.stdout[-2000:]
        assert running.post("/v1/completions", {"model": "demo", "prompt": "a"}).status_code == 200
