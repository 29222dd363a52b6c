"""Every verb as a real process: results on stdout, errors on stderr, exit codes that mean it."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

import mooring
from mooring.api.package import PackagedModel
from mooring.loading.bundle import open_bundle
from mooring.spec.manifest import MANIFEST_PATH
from tests.conftest import Store
from tests.engines.upstream.servers import stand_in
from tests.hub_server import hub_server
from tests.models import tiny_llama
from tests.processes import BIN, free_port

VERBS = ["plan", "package", "serve", "predict", "chat", "info", "verify", "key"]


def run(*arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(BIN / "mooring"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "160", **environment},
    )


def failed(*arguments: object, code: int = 1, **environment: str) -> str:
    """Run a command that must fail; return its one line on stderr."""
    ran = run(*arguments, **environment)
    assert (ran.returncode, ran.stdout) == (code, ""), ran.stdout + ran.stderr
    assert "Traceback" not in ran.stderr
    lines = [line for line in ran.stderr.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, ran.stderr
    return lines[0]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("source") / "llama")


def test_help_lists_the_verbs() -> None:
    ran = run("--help")
    assert ran.returncode == 0
    assert all(re.search(rf"^│ {verb} ", ran.stdout, re.MULTILINE) for verb in VERBS)
    assert run("--version").stdout == f"mooring {mooring.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_help_with_examples_and_json(verb: str) -> None:
    ran = run(verb, "--help")
    assert ran.returncode == 0
    assert "Examples" in ran.stdout
    assert f"mooring {verb} " in ran.stdout
    assert "--json" in ran.stdout


def test_plan_says_what_a_folder_needs(llama: Path) -> None:
    shown = json.loads(run("plan", llama, "--json").stdout)
    assert (shown["model_type"], shown["parameters"], shown["fits"]) == ("llama", 35168, True)
    assert shown["weight_bytes"]["float32"] == 4 * 35168
    assert "llama 35.2 k parameters" in run("plan", llama).stdout


def test_plan_exits_1_when_it_does_not_fit(llama: Path) -> None:
    ran = run("plan", llama, "--concurrency", 10**9, "--json")
    assert ran.returncode == 1
    assert json.loads(ran.stdout)["missing_bytes"] > 0


def test_package_info_and_back(store: Store, llama: Path) -> None:
    ran = run(
        "package", llama, "--name", "by-command", "--alias", "champion", "--tag", "team=search",
        "--experiment", store.experiment, "--prompt", "instruct", "--default", "temperature=0.7",
        "--requirement", "einops>=0.8", "--json",
    )  # fmt: skip
    packaged = json.loads(ran.stdout)
    assert packaged["uri"] == "models:/by-command/1"
    shown = json.loads(run("info", "models:/by-command@champion", "--verify", "--json").stdout)
    assert shown["digest"] == packaged["digest"]
    assert shown["defaults"]["temperature"] == 0.7
    assert "einops>=0.8" in shown["requirements"]
    assert shown["rendered_instruction"] == (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request.\n"
        "### Instruction:\nWhat is machine learning?\n### Response:\n"
    )
    table = run("info", "models:/by-command/1").stdout
    assert "### Instruction:" in table
    assert packaged["digest"] in table.replace("\n", "")


def test_a_hub_id_is_fixed_to_a_commit(store: Store, llama: Path, tmp_path: Path) -> None:
    with hub_server({"acme/llama": llama}) as hub:
        environment = {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "0",
        }
        planned = json.loads(run("plan", "acme/llama", "--json", **environment).stdout)
        assert planned["parameters"] == 35168
        assert hub.downloads("model.safetensors") == [] or all(
            request.range for request in hub.downloads("model.safetensors")
        )
        ran = run(
            "package", "acme/llama", "--name", "from-hub", "--experiment", store.experiment,
            "--json", **environment,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        commit = hub.commit("acme/llama")
    shown = json.loads(run("info", "models:/from-hub/1", "--json").stdout)
    assert shown["origin"]["commit"] == commit
    assert shown["origin"]["name"] == "acme/llama"
    assert len(commit) == 40


def test_ctrl_c_ends_with_130_and_leaves_nothing(store: Store, tmp_path: Path) -> None:
    """Stop while a hub that never answers is asked."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            [BIN / "mooring", "package", "acme/slow", "--name", "stopped"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "HF_ENDPOINT": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "HF_HOME": str(tmp_path),
                "HF_HUB_OFFLINE": "0",
            },
        )
        silent.settimeout(60)
        connection, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=30)
        connection.close()
    assert (process.returncode, stdout) == (130, "")
    assert stderr.splitlines()[-1] == "Error: Interrupted."
    assert "Traceback" not in stderr
    assert "stopped not found" in failed("info", "models:/stopped/1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "models:/nothing@champion", "hi"], "nothing not found"),
        (["predict", "models:/demo@nothing", "hi"], "alias nothing not found"),
        (["serve", "models:/demo/99"], "not found"),
        (["info", "./nowhere"], "A packaged model must be a folder with an MLmodel file"),
        (["plan", "./nowhere"], "The source folder must exist"),
        (["package", "./nowhere", "--name", "x"], "The source folder must exist"),
        (["serve", "s3://nowhere/x"], "the store needs the package"),
        (["package", "demo", "--name", "a", "--prompt", "none.jinja"], "none.jinja"),
        (["package", "demo", "--name", "a", "--prompt", "plain", "--system", "x"], "plain"),
    ],
)
@pytest.mark.usefixtures("demo")
def test_what_is_missing_or_refused_is_said_in_one_line(arguments: list[str], said: str) -> None:
    assert said in failed(*arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["package", "demo", "--name", "a/b"], "A model name must have"),
        (["package", "demo", "--name", "a", "--alias", "v1"], "An alias must have"),
        (["serve", "models:/demo"], "Write models:/demo@ALIAS or models:/demo/VERSION"),
        (["serve", "https://nowhere.invalid/x"], "cannot be read from a web address"),
        (["chat", "models:/demo@champion", "-p", "heat=1"], "Unknown parameter `heat`"),
        (["package", "demo", "--name", "a", "--default", "heat=1"], "Unknown parameter `heat`"),
        (
            ["package", "demo", "--name", "a", "--default", "top_p=3"],
            "`top_p` must be > 0 and <= 1",
        ),
        (["package", "demo", "--name", "a", "--default", "hot"], "--default takes NAME=VALUE"),
        (["package", "demo", "--name", "a", "--requirement", "!!"], "--requirement"),
        (["package", "demo", "--name", "a", "--revision", "main"], "belongs to hub ids only"),
        (["predict", "models:/demo@champion", "hi", "-p", "n=9"], "`n` must be >= 1 and <= 8"),
        (
            ["predict", "models:/demo@champion"],
            "Give either prompts or --input-file. Given: neither",
        ),
        (["predict", "models:/demo@champion", "a", "b", "--stream"], "Streaming answers one row"),
    ],
)
@pytest.mark.usefixtures("demo")
def test_wrong_use_exits_2(arguments: list[str], said: str) -> None:
    assert said in failed(*arguments, code=2)


def test_errors_are_json_when_asked() -> None:
    ran = run("info", "models:/nothing/1", "--json")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert json.loads(ran.stderr.splitlines()[-1])["error"]["code"] == "model_uri_not_found"


def test_an_unreachable_tracking_server_is_said_at_once() -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    said = failed("package", "demo", "--name", "a", "--tracking-uri", uri)
    assert "The tracking server must answer" in said


def test_serve_refuses_what_cannot_fit(store: Store, llama: Path) -> None:
    """A model of 18 TB: only its headers exist, so nothing but the plan can refuse it."""
    from mooring.loading.bundle import open_bundle

    packaged = store.package(str(llama), "giant")
    manifest_path = open_bundle(packaged.uri).folder / "artifacts/manifest.json"
    manifest = json.loads(manifest_path.read_text())
    manifest["facts"] |= {"parameters": 9 * 10**12, "stored_dtypes": {"BF16": 9 * 10**12}}
    manifest_path.write_text(json.dumps(manifest))
    said = failed("serve", "models:/giant/1", "--port", free_port())
    assert "The model must fit into memory" in said


def test_two_first_commands_at_once_share_a_new_store(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/new.db"
    commands = [
        [BIN / "mooring", "package", "demo", "--name", name, "--tracking-uri", uri, "--json"]
        for name in ("one", "two")
    ]
    running = [
        subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
        for c in commands
    ]
    ended = [process.communicate(timeout=120) for process in running]
    assert [process.returncode for process in running] == [0, 0], ended
    assert [json.loads(out)["uri"] for out, _ in ended] == ["models:/one/1", "models:/two/1"]


def test_a_database_that_cannot_be_used_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.db").write_bytes(b"no database " * 1000)
    said = failed("info", "models:/x/1", "--tracking-uri", f"sqlite:///{tmp_path}/broken.db")
    assert "its database cannot be used" in said


@pytest.mark.usefixtures("demo")
def test_input_that_is_not_utf8_is_said_in_one_line() -> None:
    command = [str(BIN / "mooring"), "chat", "models:/demo@champion"]
    ran = subprocess.run(command, input=b"\xff\xfe\n", capture_output=True, timeout=120)
    assert ran.returncode == 2
    assert b"The prompt must be valid Unicode." in ran.stderr
    assert b"Traceback" not in ran.stderr


def test_verify_compares_an_engine_with_golden_tokens(store: Store, llama: Path) -> None:
    place = ["--experiment", store.experiment, "--tracking-uri", store.tracking_uri]
    packaged = run("package", llama, "--name", "golden-llama", "--prompt", "plain", *place)
    assert packaged.returncode == 0, packaged.stderr
    uri, *where = "models:/golden-llama/1", "--tracking-uri", store.tracking_uri
    shown = run("verify", uri, "--dtype", "float32", "--hashes", *where)
    assert shown.returncode == 0, shown.stderr
    assert "64, by transformers in float32" in shown.stdout
    told = json.loads(run("verify", uri, "--dtype", "float32", "--json", *where).stdout)
    assert (told["agrees"], told["tokens"], told["partings"]) == (True, 64, [])
    behind = ["--engine", "upstream", "--upstream-command", stand_in(), *where]
    other = run("verify", uri, "--upstream-preset", "llama.cpp", "--json", *behind)
    assert other.returncode == 1, other.stderr
    told = json.loads(other.stdout)
    assert (told["engine"], told["engine_version"], told["agrees"]) == (
        "upstream", "llama.cpp", False,
    )  # fmt: skip
    text = failed("verify", uri, "--upstream-preset", "openai", *behind, code=2)
    assert "Only an engine that gives token ids" in text
    manifest = open_bundle(uri, tracking_uri=store.tracking_uri).folder / MANIFEST_PATH
    content = json.loads(manifest.read_text())
    content["golden"]["answers"][0]["steps"][3]["top"][0][0] = 7
    manifest.write_text(json.dumps(content))
    wrong = run("verify", uri, "--dtype", "float32", "--json", *where)
    assert wrong.returncode == 1
    told = json.loads(wrong.stdout)
    assert told["agrees"] is False
    assert (told["partings"][0]["position"], told["partings"][0]["expected_id"]) == (3, 7)
    assert "Where they part" in run("verify", uri, "--dtype", "float32", *where).stdout


def test_verify_needs_golden_tokens(demo: PackagedModel) -> None:
    assert "Package it again with --golden" in failed("verify", demo.uri, code=2)
