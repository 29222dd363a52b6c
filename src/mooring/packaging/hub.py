"""Speaks to the Hugging Face hub, and says in our words what went wrong there."""

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    NotASafetensorsRepoError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
    SafetensorsParsingError,
)
from huggingface_hub.utils.tqdm import tqdm

from mooring.errors import (
    BrokenSource,
    HubUnreachable,
    MooringError,
    NotEnoughSpace,
    SourceError,
    SourceNotFound,
)
from mooring.safetensors_header import StoredTensor, check_tensors

# Versions of the client differ in their HTTP library; this is the root of the one in use.
_TransportError: type[Exception] = HfHubHTTPError.__bases__[0]

_HEADER_THREADS = 8


@dataclass(frozen=True)
class HubModel:
    """A hub model at one commit, with the size in bytes of each of its files."""

    id: str
    revision: str | None
    commit: str
    sizes: Mapping[str, int]


def find_model(model_id: str, revision: str | None) -> HubModel:
    """Ask the hub for the commit of a revision, which the cache remembers, and for its files."""
    with _hub_errors(model_id, revision):
        commit = HfApi().resolve_revision(model_id, revision=revision).resolved
        info = HfApi().model_info(model_id, revision=commit, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in info.siblings or ()}
    return HubModel(model_id, revision, commit, sizes)


def download(model: HubModel, names: Sequence[str], *, show_progress: bool) -> Path:
    """Bring files into the hub cache, which keeps whole files between runs; return the folder."""
    _require_space(model, names)
    with _hub_errors(model.id, model.revision):
        return Path(
            snapshot_download(
                model.id,
                revision=model.commit,
                allow_patterns=[escape(name) for name in names],
                tqdm_class=None if show_progress else _NoProgress,
            )
        )


def cached_folder(model_id: str, revision: str | None) -> Path | None:
    """Return the folder of a model that was downloaded before, maybe in part, or None."""
    try:
        return Path(snapshot_download(model_id, revision=revision, local_files_only=True))
    except LocalEntryNotFoundError as error:
        partial = getattr(error, "snapshot_path", None)
        return Path(partial) if partial else None


def read_headers(model: HubModel, names: Sequence[str]) -> dict[str, tuple[StoredTensor, ...]]:
    """Return the tensors of each safetensors file, reading only the headers over the network."""
    with ThreadPoolExecutor(_HEADER_THREADS) as threads:
        return dict(zip(names, threads.map(lambda name: _header(model, name), names), strict=True))


def _header(model: HubModel, name: str) -> tuple[StoredTensor, ...]:
    try:
        with _hub_errors(model.id, model.revision):
            found = HfApi().parse_safetensors_file_metadata(model.id, name, revision=model.commit)
    except (SafetensorsParsingError, NotASafetensorsRepoError):
        raise BrokenSource(
            f"{name} of {model.id!r} is damaged: its header cannot be read. "
            "Choose another --revision."
        ) from None
    tensors = tuple(
        StoredTensor(key, tensor.dtype, tuple(tensor.shape), *tensor.data_offsets)
        for key, tensor in found.tensors.items()
    )
    check_tensors(tensors, name)
    return tensors


def _require_space(model: HubModel, names: Sequence[str]) -> None:
    cache = Path(constants.HF_HUB_CACHE)
    needed = sum(model.sizes[name] for name in names if not _is_cached(model, name))
    free = shutil.disk_usage(_existing(cache)).free
    if needed > free:
        raise _no_space(f"need {needed / 1e9:.1f} GB, have {free / 1e9:.1f} GB")


def _is_cached(model: HubModel, name: str) -> bool:
    return isinstance(try_to_load_from_cache(model.id, name, revision=model.commit), str)


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


@contextmanager
def _hub_errors(model_id: str, revision: str | None) -> Iterator[None]:
    """Turn what the hub client raises into source errors without its texts."""
    try:
        yield
    except GatedRepoError:
        raise SourceNotFound(
            f"The hub model {model_id!r} is gated. Accept its terms on the hub, then set HF_TOKEN "
            "to a token of that account."
        ) from None
    except RepositoryNotFoundError:
        raise SourceNotFound(
            f"No model {model_id!r} on {constants.ENDPOINT}, or it is private. "
            "Check the spelling; for a private model set HF_TOKEN; a folder must exist."
        ) from None
    except RevisionNotFoundError:
        raise SourceNotFound(
            f"The hub model {model_id!r} has no revision {revision!r}. "
            "Give --revision a branch, tag or full commit of that model."
        ) from None
    except RemoteEntryNotFoundError:
        raise BrokenSource(
            f"A file of the hub model {model_id!r} is gone. Choose another --revision."
        ) from None
    except HFValidationError:
        raise SourceNotFound(
            "A source must be `demo`, an existing folder or a hub id `owner/name`. "
            f"Given: {model_id[:80]!r}."
        ) from None
    except RevisionResolutionError as error:
        raise _translated(error.__cause__ or error, model_id) from None
    except (OSError, _TransportError) as error:
        raise _translated(error, model_id) from None
    except (ValueError, TypeError, LookupError):
        raise HubUnreachable(
            f"{constants.ENDPOINT} answers, but not as a Hugging Face hub. "
            "Check HF_ENDPOINT and whether a proxy stands in between."
        ) from None


def _translated(error: BaseException, model_id: str) -> MooringError:
    if isinstance(error, HfHubHTTPError):
        return _refused(error.response.status_code, model_id)
    if isinstance(error, OfflineModeIsEnabled):
        return HubUnreachable(
            f"{model_id!r} is not in the local cache, and HF_HUB_OFFLINE forbids the network. "
            "Unset HF_HUB_OFFLINE, or package on a machine that has the model."
        )
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _no_space("the disk became full")
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        return SourceError(
            f"The hub cache {constants.HF_HUB_CACHE} must be a folder that can be written. "
            f"Given: {error.strerror}. Change that or set HF_HOME to another folder."
        )
    return HubUnreachable(
        f"The hub at {constants.ENDPOINT} broke off or does not answer, and {model_id!r} is not "
        "complete in the local cache. Check the network and HF_ENDPOINT, then run the same "
        "command again: files that are complete are kept."
    )


def _refused(status: int, model_id: str) -> MooringError:
    if status in (401, 403):
        return SourceNotFound(
            f"The hub refuses access to {model_id!r} (status {status}). "
            "Set HF_TOKEN to a valid token of an account that may read it."
        )
    return HubUnreachable(
        f"The hub at {constants.ENDPOINT} answered with status {status} for {model_id!r}. "
        "Try again later; a file system folder or a cached model needs no hub."
    )


def _no_space(reason: str) -> NotEnoughSpace:
    return NotEnoughSpace(
        f"The download must fit into {constants.HF_HUB_CACHE}: {reason}. "
        "Free some space or set HF_HOME to a folder on a larger disk."
    )


class _NoProgress(tqdm):
    """A progress bar that is never drawn."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]
