"""Other ways to generate, each in a child process of its own, which speaks lines of JSON.

    python benchmarks/rivals.py KIND FOLDER

reads a list of `[prompt ids, tokens wanted]` on each line of stdin and answers with the times of
every token on one line of stdout.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any

from mooring.bench.target import Answer, Ask
from mooring.errors import BenchmarkFailed

Asked = list[tuple[list[int], int]]
Answers = list[dict[str, Any]]
Generate = Callable[[Asked], Answers]


class RivalTarget:
    """Measures one of `KINDS` on the model in `folder`."""

    def __init__(self, name: str, kind: str, folder: Path, *, dtype: str = "bfloat16") -> None:
        self.name = name
        self._command = [sys.executable, __file__, kind, str(folder), dtype]
        self._child: subprocess.Popen[str] | None = None

    def open(self) -> dict[str, str]:
        """Start the child and wait until it has loaded the model."""
        self._child = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        facts: dict[str, str] = self._read()
        return facts

    def answer(self, asks: Sequence[Ask]) -> list[Answer]:
        """Send everything at once and wait for the last end."""
        assert self._child is not None
        assert self._child.stdin is not None
        work = [[list(ask.prompt), ask.output_tokens] for ask in asks]
        self._child.stdin.write(json.dumps(work) + "\n")
        self._child.stdin.flush()
        return [
            Answer(said["asked"], tuple(said["pieces"]), len(said["ids"]), tuple(said["ids"]))
            for said in self._read()
        ]

    def processes(self) -> list[int]:
        """Return the child."""
        return [] if self._child is None else [self._child.pid]

    def close(self) -> None:
        """End the child."""
        if self._child is None:
            return
        self._child.kill()
        self._child.communicate()
        self._child = None

    def _read(self) -> Any:
        assert self._child is not None
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise BenchmarkFailed(f"{self.name} ended. See what it said above.")
        return json.loads(line)


def tutorial(folder: Path, dtype: str) -> tuple[Generate, dict[str, str]]:
    """Generate one answer after another with the model's own `generate`, its cache on."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.generation.streamers import BaseStreamer

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=getattr(torch, dtype), trust_remote_code=True
    ).eval()

    class Clock(BaseStreamer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: object) -> None:
            self.times.append(time.perf_counter())

        def end(self) -> None:
            return

    def generate(asked: Asked) -> Answers:
        began = time.perf_counter()
        answers = []
        for prompt, tokens in asked:
            ids, clock = torch.tensor([prompt]), Clock()
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), do_sample=False, use_cache=True,
                min_new_tokens=tokens, max_new_tokens=tokens, pad_token_id=0, eos_token_id=None,
                streamer=clock,
            )  # fmt: skip
            pieces = clock.times[1:]  # the first is the prompt
            generated = out[0, len(prompt) :].tolist()
            answers.append({"asked": began, "pieces": pieces, "ids": generated})
        return answers

    return generate, {"engine": f"transformers {version('transformers')} generate"}


def manager(folder: Path, dtype: str) -> tuple[Generate, dict[str, str]]:
    """Generate with the continuous batching of transformers."""
    import torch
    from transformers import AutoModelForCausalLM, ContinuousBatchingConfig, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    batching = model.init_continuous_batching(
        generation_config=GenerationConfig(do_sample=False, eos_token_id=-1, max_new_tokens=128),
        continuous_batching_config=ContinuousBatchingConfig(
            num_blocks=96, max_batch_tokens=512, allow_block_sharing=False
        ),
    )
    batching.start()

    def generate(asked: Asked) -> Answers:
        began = time.perf_counter()
        names = [
            batching.add_request(
                prompt, max_new_tokens=tokens, record_timestamps=True, eos_token_id=-1
            )
            for prompt, tokens in asked
        ]
        done: dict[str, Any] = {}
        while len(done) < len(names):
            result = batching.get_result(timeout=1)
            if result is not None and result.is_finished():
                if result.error:
                    raise RuntimeError(result.error)
                done[result.request_id] = result
            elif result is None and not batching.is_running():
                raise RuntimeError("The manager has stopped.")
        return [
            {"asked": began, "pieces": done[name].timestamps, "ids": done[name].generated_tokens}
            for name in names
        ]

    return generate, {"engine": f"transformers {version('transformers')} continuous batching"}


def openvino(folder: Path, dtype: str) -> tuple[Generate, dict[str, str]]:
    """Generate with the continuous batching of OpenVINO GenAI; `folder` holds a converted model."""
    import numpy as np

    tensor: Any = import_module("openvino").Tensor
    genai: Any = import_module("openvino_genai")

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 2
    scheduler.max_num_seqs = 256
    scheduler.enable_prefix_caching = False
    pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", {})

    def generate(asked: Asked) -> Answers:
        began = time.perf_counter()
        handles: list[Any] = []
        answers: Answers = []
        for index, (prompt, tokens) in enumerate(asked):
            config = genai.GenerationConfig()
            config.max_new_tokens = tokens
            config.ignore_eos = True
            config.do_sample = False
            ids = tensor(np.array([prompt], dtype=np.int64))
            handles.append(pipeline.add_request(index, ids, config))
            answers.append({"asked": began, "pieces": [], "ids": []})
        while pipeline.has_non_finished_requests():
            pipeline.step()
            now = time.perf_counter()
            for handle, answer in zip(handles, answers, strict=True):
                while handle.can_read():
                    for output in handle.read().values():
                        answer["ids"] += output.generated_ids
                        answer["pieces"] += [now] * len(output.generated_ids)
        return answers

    return generate, {"engine": f"openvino-genai {version('openvino-genai')}"}


KINDS: dict[str, Callable[[Path, str], tuple[Generate, dict[str, str]]]] = {
    "tutorial": tutorial,
    "manager": manager,
    "openvino": openvino,
}


def main() -> None:
    """Load the model, then answer line by line until stdin ends."""
    kind, folder, dtype = sys.argv[1:]
    with _private_stdout() as said:
        generate, facts = KINDS[kind](Path(folder), dtype)
        _say(said, facts)
        for line in sys.stdin:
            _say(said, generate(json.loads(line)))
    os._exit(0)  # without waiting for threads of libraries


def _private_stdout() -> IO[str]:
    """Return what was stdout; what libraries print goes to stderr."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return said


def _say(said: IO[str], value: object) -> None:
    said.write(json.dumps(value) + "\n")
    said.flush()


if __name__ == "__main__":
    main()
