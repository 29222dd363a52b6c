"""A server that echoes prompts in any dialect, and misbehaves when a prompt asks for it.

A script on the standard library alone, started by the engine under test. A prompt's first token
names the fault: see `FAULTS`. Everything else is echoed once, or up to the limit with `ignore_eos`;
like a model, it goes on in the same way after a prompt that has the beginning of the echo.
"""

import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

END = 2
FAULTS = {
    200: "status 500",
    201: "status 400",
    202: "status 503",
    203: "no JSON",
    204: "cut",
    205: "no end",
    206: "error event",
    207: "endless line",
    208: "another reason",
    209: "exit",
    210: "not an object",
    211: "goes on after the end",
    212: "no number",
    213: "uneven lists",
}


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    seconds_per_token = 0.001

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer health and models."""
        if self.path == "/health":
            self._send(b"{}")
        elif self.path == "/v1/models":
            meta = {"n_ctx": 128, "ftype": "Q4_K - Medium"}
            model = {"id": "stand-in", "max_model_len": 256, "meta": meta}
            self._send(json.dumps({"data": [model]}).encode())
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """Echo the prompt."""
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if "--record" in sys.argv:
            with Path(sys.argv[sys.argv.index("--record") + 1]).open("a") as file:
                file.write(json.dumps([self.path, self.headers["authorization"], body]) + "\n")
        prompt = body.get("input_ids") or body["prompt"]
        fault = FAULTS.get(prompt[0], "") if isinstance(prompt, list) else ""
        if fault.startswith("status"):
            self.send_error(int(fault.split()[1]))
            return
        if fault == "exit":
            os._exit(3)
        if body.get("stream") is False:
            self._send(json.dumps(_whole(prompt, body["n_predict"])).encode())
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            self._stream(body, prompt, fault)
        except OSError:
            return

    def _stream(self, body: dict[str, Any], prompt: Any, fault: str) -> None:
        asked = body.get("sampling_params") or body
        if "generation_config" in body:
            asked = json.loads(body["generation_config"])
        limit = asked.get("max_tokens") or asked.get("max_new_tokens") or asked["n_predict"]
        endless = asked.get("ignore_eos")
        told = 0
        for position in range(limit):
            if not endless and len(prompt) + position >= 2 * _period(prompt):
                break
            time.sleep(self.seconds_per_token)
            told += 1
            self._event(self._piece(body, prompt, position))
            if position == 2 and fault:
                self._misbehave(fault, prompt)
                if fault != "goes on after the end":
                    return
        ends = told < limit
        self._event(self._last(prompt, told, "stop" if ends else "length"))
        if "generation_config" not in body:
            self._line("[DONE]")

    def _misbehave(self, fault: str, prompt: Any) -> None:
        if fault == "no JSON":
            self._line("{never")
        elif fault == "not an object":
            self._line("[1, 2]")
        elif fault == "error event":
            self._line(json.dumps({"error": {"message": "secret prompt"}}))
        elif fault == "endless line":
            self.wfile.write(b"data: " + b"x" * 2_000_000)
        elif fault == "another reason":
            self._event(self._last(prompt, 3, "abort"))
        elif fault == "goes on after the end":
            self._event({"choices": [{"token_ids": [END]}]})
        elif fault == "no number":
            self._event({"usage": {"prompt_tokens_details": {"cached_tokens": "secret"}}})
        elif fault == "uneven lists":
            told = {"token_logprobs": [-1.0], "top_logprobs": [{}, {}]}
            self._event({"choices": [{"token_ids": [65], "logprobs": told}]})
        elif fault == "cut":
            self.wfile.write(b"data: {")

    def _piece(self, body: dict[str, Any], prompt: Any, position: int) -> dict[str, Any]:
        item = _echo(prompt, position)
        if self.path == "/generate":
            ids = [_echo(prompt, at) for at in range(position + 1)]
            return {"output_ids": ids, "meta_info": {"completion_tokens": position + 1}}
        if self.path == "/completion":
            return {
                "content": chr(item), "tokens": [item], "stop": False,
                "tokens_predicted": position + 1,
            }  # fmt: skip
        if isinstance(prompt, str):
            return {"choices": [{"text": item}]}
        choice: dict[str, Any] = {"token_ids": [item], "text": "?"}
        if body.get("logprobs") is not None:
            choice["logprobs"] = _logprobs(item, body["logprobs"])
        return {"choices": [choice]}

    def _last(self, prompt: Any, told: int, reason: str) -> dict[str, Any]:
        if self.path == "/generate":
            ids = [_echo(prompt, at) for at in range(told)] + [END] * (reason == "stop")
            about = {"completion_tokens": len(ids), "finish_reason": {"type": reason}}
            return {"output_ids": ids, "meta_info": about | {"cached_tokens": 1}}
        if self.path == "/completion":
            why = {"stop": "eos", "length": "limit"}.get(reason, reason)
            return {
                "content": "", "tokens": [], "stop": True, "stop_type": why,
                "tokens_predicted": told,
            }  # fmt: skip
        choice: dict[str, Any] = {"finish_reason": reason}
        if not isinstance(prompt, str):
            choice["token_ids"] = [END] * (reason == "stop")
        return {"choices": [choice], "usage": {"completion_tokens": told}}

    def _event(self, data: dict[str, Any]) -> None:
        self._line(json.dumps(data))

    def _line(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _whole(prompt: list[int], limit: int) -> dict[str, Any]:
    """Tell the whole answer at once, as llama.cpp does: with its ids, that of the end too."""
    ids = ([_echo(prompt, at) for at in range(_period(prompt))] + [END])[:limit]
    return {
        "content": "?", "tokens": ids, "stop": True,
        "stop_type": "eos" if ids[-1] == END else "limit", "tokens_predicted": len(ids),
    }  # fmt: skip


def _logprobs(item: int, most: int) -> dict[str, Any]:
    """Tell what vLLM tells: the token itself is always among the most likely ones."""
    top = {f"token_id:{item + n}": -1.0 - n for n in range(most)} | {f"token_id:{item}": -1.0}
    return {
        "tokens": [f"token_id:{item}"], "token_logprobs": [-1.0], "top_logprobs": [top],
    }  # fmt: skip


def _period(prompt: Any) -> int:
    """Return the length of what is echoed: the shortest part that the prompt repeats."""
    for length in range(1, len(prompt)):
        if all(prompt[at] == prompt[at % length] for at in range(length, len(prompt))):
            return length
    return len(prompt)


def _echo(prompt: Any, position: int) -> Any:
    return prompt[(len(prompt) + position) % _period(prompt)]


class Server(ThreadingHTTPServer):
    """Many connections at once."""

    daemon_threads = True
    request_queue_size = 64


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
