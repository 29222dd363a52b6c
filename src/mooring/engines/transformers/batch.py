"""Several prompts side by side in one model: left-padded, with a key/value cache or any other."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch


class Batch:
    """The tensors of rows that started together; `forward` gives the next token's logits.

    Rows are left-padded to equal length and the padding is masked. The model makes its own
    cache at the first call, of whatever kind it uses. With `keep_all` that call keeps the logits
    after every token of the first row.
    """

    def __init__(
        self,
        model: Any,
        prompts: Sequence[Sequence[int]],
        vocabulary_size: int,
        *,
        keep_all: bool = False,
    ) -> None:
        self._model = model
        self._vocabulary_size = vocabulary_size
        self._ids, mask = _left_padded(prompts, model.device)
        self._inputs = _first_inputs(model, mask)
        self._first = True
        self._keep_all = keep_all
        self._all: torch.Tensor | None = None
        if keep_all and "logits_to_keep" in self._inputs:
            self._inputs["logits_to_keep"] = 0

    @property
    def rows(self) -> int:
        """How many rows the batch has."""
        return len(self._ids)

    def forward(self) -> torch.Tensor:
        """Run the model over what it has not seen; return logits `[rows, vocabulary]`."""
        inputs = self._model.prepare_inputs_for_generation(
            self._ids,
            next_sequence_length=1 if self.cache is not None else None,
            is_first_iteration=self._first,
            **self._inputs,
        )
        outputs = self._model(**inputs, return_dict=True)
        self._inputs = self._model._update_model_kwargs_for_generation(outputs, self._inputs)
        if self._first and self._keep_all:
            self._keep(outputs.logits)
        self._first = False
        logits: torch.Tensor = outputs.logits[:, -1, : self._vocabulary_size]
        return logits.to(self._ids.device)

    def take_all(self) -> torch.Tensor:
        """Return the logits `[tokens, vocabulary]` that the first pass kept, and forget them."""
        kept, self._all = self._all, None
        assert kept is not None
        return kept

    def _keep(self, logits: torch.Tensor) -> None:
        self._all = logits[0, :, : self._vocabulary_size].to(self._ids.device)
        if "logits_to_keep" in self._inputs:
            self._inputs["logits_to_keep"] = 1

    def append(self, token_ids: Sequence[int]) -> None:
        """Add the next token of each row."""
        column = torch.tensor(token_ids, device=self._ids.device)[:, None]
        self._ids = torch.cat([self._ids, column], dim=-1)

    def keep(self, rows: Sequence[int]) -> bool:
        """Drop all other rows and return True, or do nothing if the cache cannot drop rows."""
        from transformers import Cache

        if not isinstance(self.cache, Cache):
            return False
        index = torch.tensor(rows, device=self._ids.device)
        self.cache.reorder_cache(index)
        self._ids = self._ids[index]
        for name in ("attention_mask", "position_ids"):
            if name in self._inputs:
                self._inputs[name] = self._inputs[name][index]
        return True

    @property
    def cache(self) -> Any:
        """The cache under the name this model gives it; None before the first step."""
        names = ("past_key_values", "cache_params", "state", "mems")
        return next((self._inputs[n] for n in names if self._inputs.get(n) is not None), None)


def forward_parameters(model: Any) -> frozenset[str]:
    """Return the names of the arguments that the model's `forward` declares."""
    return frozenset(inspect.signature(model.forward).parameters)


def _left_padded(
    prompts: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask `[rows, longest]`; padding has id 0 and mask 0."""
    longest = max(map(len, prompts))
    ids = [[0] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _first_inputs(model: Any, mask: torch.Tensor) -> dict[str, Any]:
    declared = forward_parameters(model)
    inputs: dict[str, Any] = {"use_cache": True}
    if "attention_mask" in declared:
        inputs["attention_mask"] = mask
    if "position_ids" in declared:
        inputs["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)
    if "logits_to_keep" in declared:
        inputs["logits_to_keep"] = 1
    return inputs
