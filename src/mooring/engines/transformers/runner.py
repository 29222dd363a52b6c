"""Chooses, once per model, how its sequences run side by side, and runs them."""

import gc
import logging
from collections.abc import Iterable
from typing import Any

import torch

from mooring.engines.contract import CacheUse
from mooring.engines.sequence import Sequence
from mooring.engines.transformers.budget import bytes_per_token, plan_tokens
from mooring.engines.transformers.columns import Columns
from mooring.engines.transformers.continuous import Continuous
from mooring.engines.transformers.grouped import Grouped
from mooring.engines.transformers.loader import LoadedModel
from mooring.engines.transformers.packed_linear import pack_linears
from mooring.engines.transformers.padding import padding_is_right
from mooring.engines.transformers.prefixes import PrefixStore
from mooring.engines.transformers.speculation import Speculation
from mooring.engines.transformers.trial import try_captured, try_columns, try_ragged
from mooring.engines.transformers.wide_linear import widen_linears
from mooring.errors import InvalidParameter
from mooring.settings import EngineSettings

logger = logging.getLogger(__name__)

# Below this many parameters a step is over before a second thread could help: measured on two
# cores, equal speed when they are idle and less than half of it when they are not.
_TOO_SMALL_TO_SHARE = 4_000_000
# Rotary frequencies of these kinds change with the longest row of a batch.
_SHARED_ROTARY = frozenset({"dynamic", "longrope"})
_POSITION_LIMITS = ("original_max_position_embeddings", "max_position_embeddings")


class Runner:
    """A loaded model that makes steps; `context_length` (tokens) is what its memory allows.

    Rows in columns where the model takes them; else groups that arrived together.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        end_token_ids: Iterable[int],
        settings: EngineSettings,
        context_length: int,
    ) -> None:
        self.context_length = context_length
        self._loaded = loaded
        self._stepped = False
        ends = frozenset(end_token_ids)
        own_pace = _rows_are_independent(loaded.model.config, context_length)
        if pack_linears(loaded):
            logger.info("The weights are packed for this CPU.")
        if widen_linears(loaded):
            logger.info("Many rows are computed in float32, which this CPU does faster.")
        like = try_columns(loaded)
        self._way: Continuous | Grouped
        if like is not None and own_pace:
            columns, prefixes = self._plan_cache(like, settings)
            self._way = Continuous(
                loaded,
                columns,
                ends,
                prefixes,
                Speculation() if settings.prompt_lookup else None,
                ragged=try_ragged(loaded),
                captured=try_captured(loaded) if _is_on_one_gpu(loaded.model) else None,
            )
            logger.info(
                "Continuous batching: the cache holds at most %d tokens.", columns.most_tokens
            )
        else:
            _refuse_bound(settings)
            self._way = Grouped(loaded, ends, can_pad=own_pace and padding_is_right(loaded))
            logger.warning("No continuous batching with this model: requests run in groups.")

    @property
    def cache_use(self) -> CacheUse:
        """How full the cache is; may be asked from any thread."""
        return self._way.cache_use

    @torch.inference_mode()
    def step(self, joining: list[Sequence]) -> None:
        """Take in `joining` and give every running sequence its next token."""
        if not self._stepped:
            self._stepped = True
            _choose_threads(self._loaded)
        self._way.step(joining)

    def free(self) -> None:
        """Let go of the model and its memory; the runner cannot step after that."""
        del self._way, self._loaded
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _plan_cache(self, like: Any, settings: EngineSettings) -> tuple[Columns, PrefixStore]:
        """Share the memory for keys and values: running rows first, what they leave for prefixes.

        Where memory abounds, prefixes may have as much as all rows at their longest.
        """
        most_useful = settings.max_running * self.context_length
        tokens = plan_tokens(
            settings.cache_bytes,
            bytes_per_token(like),
            most_useful * (2 if settings.prefix_cache else 1),
            self._loaded.device,
        )
        self.context_length = min(self.context_length, tokens)
        if not settings.prefix_cache:
            return Columns(like, tokens), PrefixStore(0)
        prefixes = PrefixStore(tokens)
        columns = Columns(
            like, min(tokens, most_useful), lambda cells: prefixes.bound(tokens - cells)
        )
        return columns, prefixes


def _is_on_one_gpu(model: Any) -> bool:
    return {each.device.type for each in model.parameters()} == {"cuda"} and (
        len({each.device for each in model.parameters()}) == 1
    )


def _rows_are_independent(config: Any, context_length: int) -> bool:
    """Say whether no row of a batch changes the positions of another one."""
    text = config.get_text_config(decoder=True)
    rotary = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    kinds = [rotary, *(kind for kind in rotary.values() if isinstance(kind, dict))]
    if not any(kind.get("rope_type", kind.get("type")) in _SHARED_ROTARY for kind in kinds):
        return True
    limits = [kind.get("original_max_position_embeddings") for kind in kinds]
    limits += [getattr(text, name, None) for name in _POSITION_LIMITS]
    return context_length <= min((limit for limit in limits if limit), default=0)


def _refuse_bound(settings: EngineSettings) -> None:
    if settings.cache_bytes is not None:
        raise InvalidParameter(
            "`cache_bytes` can only bound continuous batching, and this model runs in groups. "
            f"Given: {settings.cache_bytes}. Leave it out.",
            param="cache_bytes",
        )


def _choose_threads(loaded: LoadedModel) -> None:
    """Run a tiny model on one thread; must be called in the thread that steps."""
    if sum(values.numel() for values in loaded.model.parameters()) < _TOO_SMALL_TO_SHARE:
        torch.set_num_threads(1)
