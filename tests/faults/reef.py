"""Reef: a tiny Llama whose own code does harm when it meets a token that a test has armed.

A test arms a harm by a file in the snapshot's folder, so it reaches a model in any process.
"""

import json
from pathlib import Path
from typing import Literal

from tests.models import tiny_llama

Harm = Literal["raise", "nan", "never", "memory", "crash", "hang"]
# Armed under this name, native code crashes when the next row leaves the others.
LEAVING = "leaving-0"


def reef(path: Path) -> Path:
    """Write the snapshot; it behaves until something is armed."""
    tiny_llama(path)
    (path / "modeling_reef.py").write_text(_MODELING)
    (path / "harms").mkdir()
    config = json.loads((path / "config.json").read_bytes())
    config["architectures"] = ["ReefForCausalLM"]
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_reef.ReefForCausalLM"}
    config["harms"] = str(path / "harms")
    (path / "config.json").write_text(json.dumps(config, indent=2))
    return path


def arm(snapshot: Path, harm: Harm, token: int, *, once: bool = False) -> None:
    """Do harm in the next pass that reads `token`, and in all after it unless `once`."""
    (snapshot / "harms" / f"{harm}-{token}").write_text("once" if once else "")


def arm_leaving(snapshot: Path) -> None:
    """Crash once, when the next row leaves the others."""
    (snapshot / "harms" / LEAVING).touch()


def disarm(snapshot: Path) -> None:
    """Take all harms away."""
    for armed in (snapshot / "harms").iterdir():
        armed.unlink()


_MODELING = '''\
"""A Llama that does harm on purpose."""

import contextlib
import ctypes
import functools
import logging
import time
from pathlib import Path

from transformers import LlamaForCausalLM

from mooring.engines.transformers.columns import Columns

logger = logging.getLogger("mooring.reef")


class ReefForCausalLM(LlamaForCausalLM):
    def __init__(self, config):
        super().__init__(config)
        Columns.leave = crashing(Columns.leave, Path(config.harms) / "leaving-0")

    @functools.wraps(LlamaForCausalLM.forward)
    def forward(self, input_ids=None, **kwargs):
        harms = {}
        for armed in Path(self.config.harms).iterdir():
            harm, token = armed.name.split("-")
            if (input_ids == int(token)).any():
                harms[harm] = int(token)
                if armed.read_text() == "once":
                    armed.unlink()
        poisons = [token for harm, token in harms.items() if harm in ("nan", "never")]
        with poisoned(self.model.embed_tokens, poisons):
            outputs = super().forward(input_ids=input_ids, **kwargs)
        if "never" in harms:
            outputs.logits[outputs.logits.isnan()] = float("-inf")
        for harm in harms:
            do_harm(harm)
        return outputs


def crashing(leave, armed):
    @functools.wraps(leave)
    def crash_or_leave(columns, row):
        if armed.exists():
            armed.unlink()
            ctypes.string_at(0)
        return leave(columns, row)

    return crash_or_leave


@contextlib.contextmanager
def poisoned(embeddings, tokens):
    """Let what follows these tokens in their own rows be no numbers."""

    def spoil(module, inputs, output):
        output = output.clone()
        for token in tokens:
            output[inputs[0] == token] = float("nan")
        return output

    hook = embeddings.register_forward_hook(spoil)
    try:
        yield
    finally:
        hook.remove()


def do_harm(harm):
    if harm == "raise":
        raise LookupError("told to raise, in /secret/path")
    if harm == "memory":
        raise MemoryError
    if harm == "crash":
        ctypes.string_at(0)
    if harm == "hang":
        logger.info("hanging")
        time.sleep(3600)
'''
