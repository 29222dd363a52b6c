"""What is too old for a model is refused with both versions; what is a little older is told."""

from dataclasses import replace
from importlib.metadata import version

import pytest
from packaging.version import Version

import mooring
from mooring.errors import MissingDependency
from mooring.loading.bundle import Bundle, open_bundle
from mooring.loading.start import start_service
from mooring.settings import EngineSettings
from tests.conftest import Store
from tests.models import tiny_llama

CPU = EngineSettings("transformers", device="cpu", dtype="float32")
TORCH = Version(version("torch"))


@pytest.fixture(scope="module")
def bundle(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    source = tiny_llama(tmp_path_factory.mktemp("source") / "llama")
    packaged = mooring.package(
        mooring.ModelSpec(source=str(source), prompt="plain"),
        name="installed",
        experiment=store.experiment,
        tracking_uri=store.tracking_uri,
    )
    return open_bundle(packaged.uri)


def packaged_with(bundle: Bundle, *requirements: str) -> Bundle:
    changed = bundle.manifest.model_copy(update={"requirements": requirements})
    return replace(bundle, manifest=changed)


def test_a_package_older_by_a_major_version_is_refused(bundle: Bundle) -> None:
    newer = f"{TORCH.major + 1}.0.1"
    with pytest.raises(MissingDependency) as error:
        start_service(packaged_with(bundle, f"torch=={newer}"), CPU)
    assert f"packaged with torch {newer}. Installed: {TORCH}" in error.value.message
    assert f"pip install 'torch=={newer}'" in error.value.message


def test_what_is_older_by_less_is_told_in_one_warning(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    minor, mlflow = f"{TORCH.major}.{TORCH.minor + 1}.0", f"{Version(version('mlflow')).major}.999"
    older = packaged_with(
        bundle, "jinja2==1.0", f"mlflow=={mlflow}", "not-installed==1", f"torch=={minor}", "x>=2",
        "openvino-genai==9999.0",
    )  # fmt: skip
    start_service(older, CPU).close()
    assert [message for message in caplog.messages if message.startswith("Older")] == [
        f"Older than what this model was packaged with: mlflow {version('mlflow')} (packaged with "
        f"{mlflow}), torch {TORCH} (packaged with {minor})."
    ]


def test_what_a_model_was_packaged_with_here_needs_no_word(
    bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    start_service(bundle, CPU).close()
    assert not [message for message in caplog.messages if message.startswith("Older")]
