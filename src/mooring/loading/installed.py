"""Whether the packages that are installed here can run what was packaged with others."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement
from packaging.version import Version

from mooring.errors import MissingDependency
from mooring.settings import EngineName
from mooring.spec.manifest import Manifest

logger = logging.getLogger(__name__)

_OPENVINO = "openvino-genai"


@dataclass(frozen=True, slots=True)
class _Older:
    name: str
    packaged: Version
    installed: Version

    def __str__(self) -> str:
        return f"{self.name} {self.installed} (packaged with {self.packaged})"


def check_installed(manifest: Manifest, engine: EngineName) -> None:
    """Raise `MissingDependency` where a package that `engine` needs is older than the one that the
    model was packaged with by a major version; say in one warning what else is older.

    What is not installed at all is the engine's own concern.
    """
    older = list(_older(manifest, engine))
    for one in older:
        if one.installed.major < one.packaged.major:
            raise MissingDependency(
                f"This model was packaged with {one.name} {one.packaged}. Installed: "
                f"{one.installed}, which is too old for it. Install what it was packaged with: "
                f"pip install '{one.name}=={one.packaged}'"
            )
    if older:
        logger.warning("Older than what this model was packaged with: %s.", _listed(older))


def _listed(older: list[_Older]) -> str:
    return ", ".join(map(str, older))


def _older(manifest: Manifest, engine: EngineName) -> Iterator[_Older]:
    for requirement in map(Requirement, manifest.requirements):
        pins = [pin.version for pin in requirement.specifier if pin.operator == "=="]
        if not pins or not _is_for(requirement.name, engine):
            continue
        try:
            installed = Version(version(requirement.name))
        except PackageNotFoundError:
            continue
        if installed.release < Version(pins[0]).release:
            yield _Older(requirement.name, Version(pins[0]), installed)


def _is_for(package: str, engine: EngineName) -> bool:
    """Whether an engine needs a package; OpenVINO's needs no other than its own."""
    if engine == "openvino":
        return package == _OPENVINO
    return engine == "transformers" and package != _OPENVINO
