"""Writes an MPT snapshot in float32, with a byte-level tokenizer, as one GGUF file.

Takes the snapshot and the file. Its environment has `gguf` and `safetensors`, and no torch.
"""

import json
import sys
from pathlib import Path
from typing import Any

import gguf
from safetensors.numpy import load_file

TYPES = gguf.TokenType


def main(snapshot: Path, target: Path) -> None:
    config = json.loads((snapshot / "config.json").read_text())
    writer = gguf.GGUFWriter(target, "mpt")
    write_sizes(writer, config)
    write_tokenizer(writer, json.loads((snapshot / "tokenizer.json").read_text()))
    writer.add_eos_token_id(config["eos_token_id"])
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MPT, config["n_layers"])
    for name, values in load_file(snapshot / "model.safetensors").items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_sizes(writer: Any, config: dict[str, Any]) -> None:
    writer.add_context_length(config["max_seq_len"])
    writer.add_embedding_length(config["d_model"])
    writer.add_block_count(config["n_layers"])
    writer.add_feed_forward_length(config["expansion_ratio"] * config["d_model"])
    writer.add_head_count(config["n_heads"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    writer.add_max_alibi_bias(config["attn_config"]["alibi_bias_max"])


def write_tokenizer(writer: Any, tokenizer: dict[str, Any]) -> None:
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["content"] for token in tokenizer["added_tokens"] if token["special"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([TYPES.CONTROL if t in special else TYPES.NORMAL for t in tokens])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
