import ast
from importlib.metadata import packages_distributions, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import mooring
from mooring.errors import InvalidInput, MissingDependency
from mooring.packaging import requirements
from mooring.packaging.inspection import inspect_snapshot
from mooring.packaging.requirements import SERVING, find_requirements
from mooring.packaging.snapshot import fetch_snapshot
from mooring.spec.model_spec import ModelSpec

# Engines that only the server runs, which an environment made for MLflow never does.
OTHER_ENGINES = {"process", "upstream", "openvino"}


def find(folder: Path, *extra: str, trust: bool = False) -> tuple[str, ...]:
    spec = ModelSpec(source=str(folder), trust_remote_code=trust)
    snapshot = fetch_snapshot(spec, show_progress=False)
    facts = inspect_snapshot(snapshot, trust_remote_code=trust)
    return find_requirements(snapshot, facts, extra)


def names(found: tuple[str, ...]) -> list[str]:
    return [requirement.partition("==")[0] for requirement in found]


def test_a_plain_model_needs_what_serving_needs_in_the_versions_of_here(llama: Path) -> None:
    found = find(llama)
    assert names(found) == sorted(SERVING)
    assert found == tuple(sorted(found))
    for requirement in found:
        name, _, pinned = requirement.partition("==")
        assert pinned == Version(version(name)).public
        assert "+" not in requirement


def test_serving_covers_what_the_rooms_import() -> None:
    """Whatever the rooms that run at serving time import is in the list or comes with it."""
    source = Path(mooring.__file__).parent
    imported: set[str] = set()
    for room in ("loading", "service", "engines", "generation", "spec"):
        for path in (source / room).rglob("*.py"):
            if path.parent.name not in OTHER_ENGINES:
                imported |= _imported(path)
    installed = packages_distributions()
    found = {canonicalize_name(name) for top in imported for name in installed.get(top, ())}
    assert {"torch", "transformers", "jinja2"} <= found
    brought = _requires(_requires(set(SERVING)))
    assert found - {"mooring"} <= {*SERVING, *brought}


def test_imports_of_own_code_are_added(remote_code: Path) -> None:
    added = set(find(remote_code, trust=True)) - {f"{n}=={_public(n)}" for n in SERVING}
    assert added == {f"einops=={_public('einops')}"}


def test_a_missing_import_is_named_with_the_way_out(remote_code: Path) -> None:
    _add_code(remote_code, "import nowhere_to_be_found")
    with pytest.raises(MissingDependency, match="Missing: nowhere-to-be-found") as caught:
        find(remote_code, trust=True)
    assert "pip install nowhere-to-be-found" in caught.value.message
    assert "--requirement nowhere-to-be-found==VERSION" in caught.value.message


def test_a_missing_import_may_be_stated(remote_code: Path) -> None:
    _add_code(remote_code, "import nowhere_to_be_found")
    found = find(remote_code, "Nowhere_To.Be_Found==1.2", trust=True)
    assert "Nowhere_To.Be_Found==1.2" in found


def test_an_optional_import_counts_only_where_it_is_installed(remote_code: Path) -> None:
    _add_code(
        remote_code,
        "try:\n    import nowhere_to_be_found\n    import httpx\nexcept ImportError:\n    pass",
    )
    found = names(find(remote_code, trust=True))
    assert "httpx" in found
    assert "nowhere-to-be-found" not in found


def test_import_names_become_distribution_names(remote_code: Path) -> None:
    _add_code(remote_code, "import yaml\nimport sklearn\nfrom google.protobuf import message")
    found = names(find(remote_code, trust=True))
    assert {"pyyaml", "scikit-learn", "protobuf"} <= set(found)


def test_code_that_is_not_trusted_adds_nothing(llama: Path) -> None:
    (llama / "extra.py").write_text("import nowhere_to_be_found")
    assert names(find(llama)) == sorted(SERVING)


def test_a_persons_own_replace_the_found_ones(llama: Path) -> None:
    found = find(llama, "Torch==2.12.0", "wheel>=0.40 ; python_version > '3.8'")
    assert "Torch==2.12.0" in found
    assert [r for r in found if r.lower().startswith("torch==")] == ["Torch==2.12.0"]
    assert found[-1].startswith("wheel>=0.40")


@pytest.mark.parametrize("bad", ["", "two words", "-r file", "torch==", "../folder", "a\nb"])
def test_a_bad_requirement_is_refused(llama: Path, bad: str) -> None:
    with pytest.raises(InvalidInput, match="`--requirement` must be a pip requirement") as caught:
        find(llama, bad)
    assert caught.value.param == "requirements"


@pytest.mark.parametrize(
    ("file", "extra"),
    [("tokenizer.model", ["protobuf", "sentencepiece"]), ("qwen.tiktoken", ["tiktoken"])],
)
def test_old_tokenizers_bring_their_libraries(llama: Path, file: str, extra: list[str]) -> None:
    (llama / file).write_bytes(b"model")
    stated = tuple(f"{name}==1" for name in extra)
    assert not set(extra) & set(names(find(llama)))
    (llama / "tokenizer.json").unlink()
    assert set(stated) <= set(find(llama, *stated))
    missing = [name for name in extra if name not in packages_installed()]
    with pytest.raises(MissingDependency, match=missing[0]):
        find(llama)


def _requires(names: set[str]) -> set[str]:
    """Return `names` and what they require themselves, extras left out."""
    texts = [text for name in names for text in requires(name) or () if "extra ==" not in text]
    found = {canonicalize_name(Requirement(text).name) for text in texts}
    return names | (found & packages_installed())


def packages_installed() -> set[str]:
    found = packages_distributions().values()
    return {canonicalize_name(name) for names in found for name in names}


def _add_code(folder: Path, code: str) -> None:
    path = folder / "modeling_harbor.py"
    path.write_text(f"{code}\n{path.read_text()}")


def _public(name: str) -> str:
    return Version(version(name)).public


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_without_the_serving_extra_its_name_is_the_advice(
    llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = requirements._version
    gone = {"torch", "safetensors"}
    monkeypatch.setattr(
        requirements, "_version", lambda name: None if name in gone else installed(name)
    )
    with pytest.raises(MissingDependency, match=r"Missing: safetensors, torch\.") as caught:
        find(llama)
    assert "pip install 'mooring[transformers]'" in caught.value.message
