"""A model as a tutorial has it written by hand: one `generate` per call, for MLflow to execute."""

from threading import Lock
from typing import Any

import mlflow
import torch
from mlflow.pyfunc import PythonModel, PythonModelContext
from transformers import AutoModelForCausalLM, AutoTokenizer


class HandWritten(PythonModel):  # type: ignore[misc]
    """Answers row by row, each alone, in the precision that the weights have."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load tokenizer and model."""
        snapshot = context.artifacts["snapshot"]
        self._lock = Lock()
        self._tokenizer = AutoTokenizer.from_pretrained(snapshot, padding_side="left")
        self._model = AutoModelForCausalLM.from_pretrained(snapshot, dtype="auto").eval()

    def predict(
        self, context: PythonModelContext, model_input: Any, params: dict[str, Any] | None = None
    ) -> dict[str, list[str]]:
        """Return one candidate per row."""
        params = params or {}
        return {"candidates": [self._answer(prompt, params) for prompt in model_input["prompt"]]}

    def _answer(self, prompt: str, params: dict[str, Any]) -> str:
        ids = self._tokenizer(prompt, return_tensors="pt").input_ids
        greedy = params["temperature"] == 0
        with self._lock, torch.no_grad():
            tokens = self._model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=params["max_tokens"],
                min_new_tokens=params["max_tokens"] if params["ignore_eos"] else None,
                do_sample=not greedy,
                temperature=None if greedy else params["temperature"],
                use_cache=True,
            )
        text: str = self._tokenizer.decode(tokens[0, ids.shape[1] :], skip_special_tokens=True)
        return text


mlflow.models.set_model(HandWritten())
