"""llama.cpp's own server out of a Python wheel, with those of `llama-server`'s options we use."""

import argparse
import signal

import xllamacpp


def main() -> None:
    options = argparse.ArgumentParser()
    for name in ("--model", "--host"):
        options.add_argument(name, required=True)
    for name in ("--port", "--ctx-size", "--parallel"):
        options.add_argument(name, required=True, type=int)
    options.add_argument("--kv-unified", action="store_true")
    given = options.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = given.model
    params.hostnames = [given.host]
    params.port = given.port
    params.n_ctx = given.ctx_size
    params.n_parallel = given.parallel
    params.kv_unified = given.kv_unified
    server = xllamacpp.Server(params)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server


if __name__ == "__main__":
    main()
