"""Says what a model is from its config and weight headers, and refuses what cannot be served."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from mooring.errors import HubUnreachable
from mooring.packaging import hub
from mooring.packaging.architecture import read_architecture
from mooring.packaging.contents import WEIGHTS_INDEX, weight_files
from mooring.packaging.json_file import read_object, read_optional_object
from mooring.packaging.snapshot import (
    Snapshot,
    cached_snapshot,
    fetch_supporting_files,
    local_snapshot,
)
from mooring.packaging.tokenizer_files import check_tokenizer, special_tokens
from mooring.packaging.trust import refuse_untrusted
from mooring.safetensors_header import StoredTensor, read_header
from mooring.spec.facts import ModelFacts
from mooring.spec.model_spec import ModelSpec

_MAX_TOKENIZER_LENGTH = 10_000_000


def inspect_snapshot(snapshot: Snapshot, *, trust_remote_code: bool) -> ModelFacts:
    """Return the facts of a model on this machine; raise `BrokenSource` or `UnsafeSource`."""
    tensors = [
        tensor
        for file in snapshot.files
        if file.endswith(".safetensors")
        for tensor in read_header(snapshot.path / file, file)
    ]
    return _facts(snapshot.path, snapshot.files, tensors, trust_remote_code=trust_remote_code)


def inspect_source(spec: ModelSpec) -> ModelFacts:
    """Return the facts of a source; of a hub model, read no weights but their headers.

    Raises what `fetch_snapshot` and `inspect_snapshot` raise.
    """
    snapshot = local_snapshot(spec)
    if snapshot is None:
        try:
            model = hub.find_model(spec.source, spec.revision)
        except HubUnreachable as unreachable:
            snapshot = cached_snapshot(spec, unreachable)
        else:
            return _inspect_hub_model(spec, model)
    return inspect_snapshot(snapshot, trust_remote_code=spec.trust_remote_code)


def _inspect_hub_model(spec: ModelSpec, model: hub.HubModel) -> ModelFacts:
    folder, supporting = fetch_supporting_files(spec, model, show_progress=False)
    weights = weight_files(model.sizes, lambda: read_object(folder / WEIGHTS_INDEX))
    headers = hub.read_headers(model, [name for name in weights if name != WEIGHTS_INDEX])
    tensors = [tensor for header in headers.values() for tensor in header]
    return _facts(folder, supporting, tensors, trust_remote_code=spec.trust_remote_code)


def _facts(
    folder: Path,
    files: Sequence[str],
    tensors: Sequence[StoredTensor],
    *,
    trust_remote_code: bool,
) -> ModelFacts:
    config = read_object(folder / "config.json")
    own_code = refuse_untrusted(folder, trust_remote_code=trust_remote_code)
    architecture = read_architecture(config, tensors, own_code=own_code)
    tokenizer = check_tokenizer(folder, files, own_code=own_code)
    stored: Counter[str] = Counter()
    for tensor in tensors:
        stored[tensor.dtype] += tensor.values
    return ModelFacts(
        architecture=architecture.name,
        model_type=architecture.model_type,
        parameters=stored.total(),
        weight_bytes=sum(tensor.end - tensor.begin for tensor in tensors),
        stored_dtypes=dict(sorted(stored.items())),
        layers=architecture.layers,
        vocabulary_size=architecture.vocabulary_size or _tokens(tokenizer),
        context_length=architecture.context_length or _tokenizer_length(folder),
        cache_values_per_token=architecture.cache_values_per_token,
        own_code=own_code,
        end_token_ids=_end_token_ids(folder, config, tokenizer),
        linear_values=architecture.linear_values,
    )


def _tokens(tokenizer: Tokenizer | None) -> int:
    return 0 if tokenizer is None else tokenizer.get_vocab_size()


def _tokenizer_length(folder: Path) -> int | None:
    """Return the length that the tokenizer was made for; very large numbers mean "no limit"."""
    length = read_optional_object(folder / "tokenizer_config.json").get("model_max_length")
    return length if type(length) is int and 0 < length <= _MAX_TOKENIZER_LENGTH else None


def _end_token_ids(
    folder: Path, config: dict[str, Any], tokenizer: Tokenizer | None
) -> tuple[int, ...]:
    text_config = config.get("text_config")
    candidates = (
        read_optional_object(folder / "generation_config.json"),
        config,
        text_config if isinstance(text_config, dict) else {},
    )
    for candidate in candidates:
        ids = _token_ids(candidate.get("eos_token_id"))
        if ids:
            return ids
    end_token = special_tokens(folder).get("eos_token")
    if tokenizer is None or end_token is None:
        return ()
    return _token_ids(tokenizer.token_to_id(end_token))


def _token_ids(value: Any) -> tuple[int, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(id for id in values if type(id) is int and id >= 0)
