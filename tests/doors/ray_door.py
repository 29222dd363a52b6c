"""Serves the demo model with Ray Serve, loses its replica and floods it; prints what came of it.

Run as a process of its own: `python ray_door.py URI QUESTION`.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import copy_context
from importlib import import_module
from typing import Any

import httpx
import mlflow
from starlette.requests import Request
from starlette.responses import StreamingResponse

URL = "http://127.0.0.1:8123"
PATIENCE = 120.0


class Answerer:
    """One replica: the packaged model, as a stream of text."""

    def __init__(self, uri: str) -> None:
        self.model = mlflow.pyfunc.load_model(uri)

    def __call__(self, request: Request) -> StreamingResponse:
        """Answer the question in the query; `long` goes on past the end."""
        params = {"max_tokens": 300, "ignore_eos": True} if "long" in request.query_params else {}
        pieces = self._pieces(request.query_params["question"], params)
        return StreamingResponse(pieces, headers={"x-pid": str(os.getpid())})

    def _pieces(self, question: str, params: dict[str, Any]) -> Iterator[str]:
        """Go through MLflow's stream in one context, as it must be, whichever thread asks."""
        context = copy_context()
        pieces = context.run(self.model.predict_stream, {"prompt": question}, params=params)
        while (piece := context.run(next, pieces, None)) is not None:
            yield piece


def served(uri: str, port: int) -> None:
    """Serve one replica, one request at a time, with room for one more."""
    ray, serve = import_module("ray"), import_module("ray.serve")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    deployment = serve.deployment(
        max_ongoing_requests=1, max_queued_requests=1, ray_actor_options={"num_cpus": 0}
    )
    serve.run(deployment(Answerer).bind(uri))


def ask(**query: str) -> httpx.Response:
    """Ask once."""
    return httpx.get(URL, params=query, timeout=PATIENCE)


def killed_in_mid_stream(question: str) -> dict[str, Any]:
    """Kill the replica after the first piece; return how the answer broke off."""
    with httpx.stream("GET", URL, params={"question": question, "long": "1"}) as answer:
        pieces: Iterator[str] = answer.iter_text()
        first, pid = next(pieces), int(answer.headers["x-pid"])
        os.kill(pid, signal.SIGKILL)
        try:
            rest, error = "".join(pieces), ""
        except httpx.HTTPError as broken:
            rest, error = "", type(broken).__name__
    return {"first": first, "rest": rest, "error": error, "pid": pid}


def recovered(question: str) -> tuple[str, int]:
    """Return the answer and the process of the replica that came after."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        answer = ask(question=question)
        if answer.status_code == 200:
            return answer.text, int(answer.headers["x-pid"])
        time.sleep(0.2)
    raise TimeoutError


def flooded(question: str) -> list[int]:
    """Return the statuses of eight requests at once."""
    statuses: list[int] = []

    def ask_one() -> None:
        statuses.append(ask(question=question, long="1").status_code)

    threads = [threading.Thread(target=ask_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(statuses)


def main() -> None:
    """Do it all."""
    uri, question = sys.argv[1:]
    served(uri, httpx.URL(URL).port or 0)
    before = ask(question=question).text
    broken = killed_in_mid_stream(question)
    after, pid = recovered(question)
    statuses = flooded(question)
    last, _ = recovered(question)
    print(  # noqa: T201 - read by the test
        json.dumps(
            {"before": before, "broken": broken, "after": after, "pid": pid, "statuses": statuses,
             "last": last}
        )
    )  # fmt: skip
    import_module("ray.serve").shutdown()
    import_module("ray").shutdown()


if __name__ == "__main__":
    main()
