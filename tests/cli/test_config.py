"""Every limit is an option, a variable and a key of the file, in this order of weight."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import mooring.api.serve
from mooring.cli.main import app
from mooring.errors import InvalidInput
from mooring.settings import ServerLimits, ServerSettings, ServiceLimits

LIMITS = [
    *(("limits", field) for field in fields(ServiceLimits)),
    *(("server", field) for field in fields(ServerLimits)),
]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ServerSettings]]:
    """Record what would be served."""
    calls: list[tuple[str, ServerSettings]] = []

    def serve(uri: str, settings: ServerSettings, **_: Any) -> int:
        calls.append((uri, settings))
        return 0

    monkeypatch.setattr(mooring.api.serve, "serve", serve)
    return calls


def run(*arguments: object, **environment: str) -> str:
    """Run `mooring serve`; raise what it raises, return what it says of wrong use."""
    ran = CliRunner().invoke(app, ["serve", *map(str, arguments)], env=environment)
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.output


def other(field: Any) -> float:
    """Return a value that is allowed and not the default."""
    value: float = field.default - 1 if field.metadata["high"] else field.default + 7
    return value


@pytest.mark.parametrize(("group", "field"), LIMITS, ids=lambda value: getattr(value, "name", ""))
def test_each_limit_can_be_set_in_three_ways(
    served: list[tuple[str, ServerSettings]], tmp_path: Path, group: str, field: Any
) -> None:
    flag, variable = field.name.replace("_", "-"), f"MOORING_SERVE_{field.name.upper()}"
    value = other(field)
    file = tmp_path / "mooring.yaml"
    file.write_text(f"{flag}: {value}\n")
    run("m", f"--{flag}", value)
    run("m", **{variable: str(value)})
    run("m", "--config", file)
    run("m")
    found = [getattr(getattr(settings, group), field.name) for _, settings in served]
    assert found == [value, value, value, field.default]
    assert all(type(one) is type(field.default) for one in found)


def test_flag_before_variable_before_file(
    served: list[tuple[str, ServerSettings]], tmp_path: Path
) -> None:
    file = tmp_path / "mooring.yaml"
    file.write_text(
        "uri: models:/file\nport: 1\nmax-waiting: 1\ndrain-seconds: 1\nprefix-cache: false\n"
        "served-model-name: [a, b]\nallowed-host: c\ncache-bytes: 2GiB\nengine: echo\n"
    )
    run("--config", file, "--port", 3, MOORING_SERVE_PORT="2", MOORING_SERVE_MAX_WAITING="2")
    run("models:/own", MOORING_SERVE_CONFIG=str(file), MOORING_SERVE_ENGINE="auto")
    (first_uri, first), (second_uri, second) = served
    assert (first_uri, second_uri) == ("models:/file", "models:/own")
    assert (first.port, first.limits.max_waiting, first.server.drain_seconds) == (3, 2, 1.0)
    assert first.served_model_names == ("a", "b")
    assert first.access.allowed_hosts == ("c",)
    assert (first.engine.cache_bytes, first.engine.name) == (2 * 2**30, "echo")
    assert not first.engine.prefix_cache
    assert (second.port, second.engine.name) == (1, "auto")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("max-wating: 1", "unknown key `max-wating`. Did you mean `max-waiting`?"),
        ("max_waiting: 1", "unknown key `max_waiting`. Did you mean `max-waiting`?"),
        ("help: 1", "unknown key `help`."),
        ("config: other.yaml", "unknown key `config`."),
        ("port: {a: 1}", "`port` must be a text, a number, true or false."),
        ("port:", "`port` must be a text, a number, true or false."),
        ("api-key: [[a]]", "`api-key` must be a text, a number, true or false."),
        ("a: 1\n b: [", "must be YAML, in line 2."),
        ("- port", "must hold keys and values"),
        ("", "must hold keys and values"),
    ],
)
def test_a_wrong_file_is_refused_in_words(
    served: list[tuple[str, ServerSettings]], tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "mooring.yaml"
    file.write_text(content)
    with pytest.raises(InvalidInput) as error:
        run("m", "--config", file)
    assert says in error.value.message
    assert served == []


@pytest.mark.parametrize(
    ("variable", "near"),
    [
        ("MOORING_SERVE_MAX_RUNING", "MOORING_SERVE_MAX_RUNNING"),
        ("MOORING_SERVE_CONFG", "MOORING_SERVE_CONFIG"),
        ("MOORING_SERVE_DRAIN_SECOND", "MOORING_SERVE_DRAIN_SECONDS"),
        ("MOORING_SERVE_API_KEY_FILE", "MOORING_SERVE_API_KEYS_FILE"),
    ],
)
def test_a_misspelt_variable_is_refused(
    served: list[tuple[str, ServerSettings]], variable: str, near: str
) -> None:
    with pytest.raises(InvalidInput) as error:
        run("--port", 1, **{variable: "4"})
    assert f"Unknown variable `{variable}`. Did you mean `{near}`?" in error.value.message
    assert served == []
    assert "Usage" in run("--help", **{variable: "4"})


def test_variables_of_others_are_let_be(served: list[tuple[str, ServerSettings]]) -> None:
    others = ("MOORING_SERVICE_HOST", "MOORING_UPSTREAM_API_KEY", "MOORING_PACKAGE_NAME")
    run("m", **dict.fromkeys(others, "4"), MOORING_SERVE_TRACKING_URI="sqlite:///a.db")
    assert len(served) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: No such file"):
        run("m", "--config", tmp_path / "none.yaml")


@pytest.mark.parametrize("content", ["port: abc", "max-n: 9", "max-waiting: 1.5", "engine: fast"])
def test_wrong_values_are_refused_as_on_the_command_line(
    served: list[tuple[str, ServerSettings]], tmp_path: Path, content: str
) -> None:
    file = tmp_path / "mooring.yaml"
    file.write_text(content)
    assert f"--{content.partition(':')[0]}" in run("m", "--config", file)
    assert served == []


def test_keys_are_hashed_before_they_are_kept(served: list[tuple[str, ServerSettings]]) -> None:
    run("m", "--api-key", "first-key", MOORING_SERVE_API_KEYS_FILE="keys.yaml")
    run("m", MOORING_SERVE_API_KEY="first-key second-key")
    assert "first-key" not in repr(served)
    assert [key.name for key in served[1][1].access.keys] == ["key-1", "key-2"]
    assert served[0][1].access.keys_file == "keys.yaml"
    assert served[0][1].access.keys[0] == served[1][1].access.keys[0]
    with pytest.raises(InvalidInput, match="printable ASCII without spaces"):
        run("m", "--api-key", "kéy")
