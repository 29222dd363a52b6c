"""One pass of a model over new tokens of rows that have a cache."""

from typing import Any

import torch

from mooring.engines.transformers.batch import forward_parameters
from mooring.engines.transformers.loader import LoadedModel


class Forward:
    """Calls a model with the arguments that its `forward` declares.

    `vocabulary_size` is the width of its logits.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = loaded.model
        self.vocabulary_size = loaded.vocabulary_size
        declared = forward_parameters(loaded.model)
        self._takes_mask = "attention_mask" in declared
        self._takes_positions = "position_ids" in declared
        self._takes_count = "logits_to_keep" in declared

    @property
    def device(self) -> torch.device:
        """Where token ids, masks and positions go in."""
        device: torch.device = self._model.device
        return device

    def __call__(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        positions: torch.Tensor,
        cache: Any,
        count: int = 1,
    ) -> torch.Tensor:
        """Return the logits after the last `count` of `ids` `[rows, new]` of each row, as
        `[rows * count, vocabulary]`.

        `mask` is `[rows, seen + new]`, `positions` `[rows, new]`; the cache takes in the new.
        """
        inputs: dict[str, Any] = {}
        if self._takes_count:
            inputs["logits_to_keep"] = count
        if self._takes_mask:
            inputs["attention_mask"] = mask
        if self._takes_positions:
            inputs["position_ids"] = positions
        return self._call(ids, cache, inputs)[:, -count:].flatten(0, 1)

    def at(
        self, places: torch.Tensor, ids: torch.Tensor, positions: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        """Return the logits after the tokens at `places` `[count]` of `ids` `[1, new]`, as `[count,
        vocabulary]`, without a mask: the cache knows what each may see.
        """
        inputs: dict[str, Any] = {"position_ids": positions}
        if self._takes_count:
            return self._call(ids, cache, inputs | {"logits_to_keep": places})[0]
        return self._call(ids, cache, inputs)[0, places]

    def _call(self, ids: torch.Tensor, cache: Any, inputs: dict[str, Any]) -> torch.Tensor:
        outputs = self._model(
            input_ids=ids, past_key_values=cache, use_cache=True, return_dict=True, **inputs
        )
        logits: torch.Tensor = outputs.logits[..., : self.vocabulary_size]
        return logits.to(ids.device)
