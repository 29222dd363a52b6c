"""Finds the packages that this one model needs at serving time, with their versions here."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from mooring.errors import InvalidInput, MissingDependency
from mooring.packaging.code_reading import read_imports
from mooring.packaging.snapshot import Snapshot
from mooring.packaging.trust import code_modules
from mooring.spec.facts import ModelFacts

SERVING = (
    "accelerate",
    "huggingface-hub",
    "jinja2",
    "llguidance",
    "mlflow",
    "pydantic",
    "psutil",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
)

# Where the name that is imported differs from the one that is installed; for what is not
# installed here, nobody else can tell.
_DISTRIBUTIONS = {
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "fla": "flash-linear-attention",
    "flash_attn": "flash-attn",
    "google.protobuf": "protobuf",
    "mamba_ssm": "mamba-ssm",
    "causal_conv1d": "causal-conv1d",
    "opencc": "opencc-python-reimplemented",
    "sklearn": "scikit-learn",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
}


def find_requirements(
    snapshot: Snapshot, facts: ModelFacts, extra: tuple[str, ...], *, converted: bool = False
) -> tuple[str, ...]:
    """Return sorted pip requirements; those of `extra` replace found ones of the same name.

    With `converted`, the engine that runs the conversion is one of them. Raises `InvalidInput` for
    a bad requirement and `MissingDependency` for a package that the model imports and that is not
    installed here.
    """
    given = {canonicalize_name(item.name): item for item in map(_parse, extra)}
    names = {*SERVING, *_for_tokenizer(snapshot)}
    if facts.own_code:
        names |= _for_code(snapshot)
    if converted:
        names.add("openvino-genai")
    needed = {canonicalize_name(name) for name in names} - given.keys()
    versions = {name: _version(name) for name in sorted(needed)}
    _require_installed([name for name, found in versions.items() if found is None])
    pinned = {name: f"{name}=={Version(found).public}" for name, found in versions.items() if found}
    chosen = pinned | {name: str(requirement) for name, requirement in given.items()}
    return tuple(chosen[name] for name in sorted(chosen))


def require_serving_packages(extra: tuple[str, ...]) -> None:
    """Raise `MissingDependency` for what every model needs and neither is here nor in `extra`."""
    given = {canonicalize_name(_parse(item).name) for item in extra}
    _require_installed([name for name in SERVING if name not in given and not _version(name)])


def _parse(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement:
        raise InvalidInput(
            "`--requirement` must be a pip requirement such as `einops==0.8.1`. "
            f"Given: {text[:80]!r}.",
            param="requirements",
        ) from None


def _for_tokenizer(snapshot: Snapshot) -> tuple[str, ...]:
    if "tokenizer.json" in snapshot.files:
        return ()
    if any(file.endswith(".model") for file in snapshot.files):
        return ("protobuf", "sentencepiece")
    if any(file.endswith(".tiktoken") for file in snapshot.files):
        return ("tiktoken",)
    return ()


def _for_code(snapshot: Snapshot) -> set[str]:
    imports = read_imports(snapshot.path, code_modules(snapshot.path))
    installed = packages_distributions()
    required = {_distribution(module, installed) for module in imports.required}
    optional = {_distribution(module, installed) for module in imports.optional}
    return required | {name for name in optional if _version(name) is not None}


def _distribution(module: str, installed: Mapping[str, Iterable[str]]) -> str:
    """Return the distribution that brings a module: what is installed knows best."""
    top = module.partition(".")[0]
    for imported in (module, top):
        if imported in _DISTRIBUTIONS:
            return canonicalize_name(_DISTRIBUTIONS[imported])
    names = sorted({canonicalize_name(name) for name in installed.get(top, ())})
    same = canonicalize_name(top)
    return same if same in names or not names else names[0]


def _require_installed(missing: Sequence[str]) -> None:
    """Raise `MissingDependency` if anything is missing: what is not here cannot be pinned."""
    if not missing:
        return
    own = set(missing) & set(SERVING)
    install = "'mooring[transformers]'" if own else " ".join(missing)
    raise MissingDependency(
        "Packages that the model needs must be installed here to be pinned. Missing: "
        f"{', '.join(missing)}. Run `pip install {install}`, or state the version with "
        f"`--requirement {missing[0]}==VERSION`."
    )


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
