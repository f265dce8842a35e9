#!/usr/bin/env python3
"""Logits of an OPT or BLOOM as Hugging Face stores it, in double by numpy alone: what the numbers in trained_test.cpp come from.

    logits.py <folder with config.json and model.safetensors> <text>

Reads byte 0 and the bytes of the text, and prints every 32nd logit after the last of them.
"""
import json
import pathlib
import struct
import sys

import numpy as np


def tensors(path):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    types = {"F16": np.float16, "F32": np.float32}
    return {name: np.frombuffer(body[slice(*entry["data_offsets"])], types[entry["dtype"]]).astype(float).reshape(entry["shape"])
            for name, entry in header.items() if name != "__metadata__"}


def norm(w, name, x, eps=1e-5):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps) * w[name + ".weight"] + w[name + ".bias"]


def linear(w, name, x):
    return x @ w[name + ".weight"].T + w[name + ".bias"]


def attend(q, k, v, slopes):
    """[time, heads, size] each; slopes [heads] or zeros, on the keys' positions, as Hugging Face has it."""
    time, _, size = q.shape
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(size) + slopes[:, None, None] * np.arange(time)
    scores = np.where(np.tri(time, dtype=bool), scores, -np.inf)
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("hts,shd->thd", p / p.sum(-1, keepdims=True), v).reshape(time, -1)


def opt(c, w, tokens):
    heads, time = c["num_attention_heads"], len(tokens)
    x = w["model.decoder.embed_tokens.weight"][tokens] + w["model.decoder.embed_positions.weight"][2:2 + time]
    for layer in range(c["num_hidden_layers"]):
        name = f"model.decoder.layers.{layer}."
        n = norm(w, name + "self_attn_layer_norm", x)
        q, k, v = (linear(w, f"{name}self_attn.{part}_proj", n).reshape(time, heads, -1) for part in "qkv")
        x = x + linear(w, name + "self_attn.out_proj", attend(q, k, v, np.zeros(heads)))
        n = linear(w, name + "fc1", norm(w, name + "final_layer_norm", x))
        x = x + linear(w, name + "fc2", np.maximum(n, 0))
    return norm(w, "model.decoder.final_layer_norm", x) @ w["model.decoder.embed_tokens.weight"].T


def bloom(c, w, tokens):
    heads, time = c["n_head"], len(tokens)
    assert heads & (heads - 1) == 0, "slopes of other numbers of heads are not made here"
    slopes = 2.0 ** (-8 / heads * np.arange(1, heads + 1))
    x = norm(w, "transformer.word_embeddings_layernorm", w["transformer.word_embeddings.weight"][tokens])
    for layer in range(c["n_layer"]):
        name = f"transformer.h.{layer}."
        fused = linear(w, name + "self_attention.query_key_value", norm(w, name + "input_layernorm", x)).reshape(time, heads, 3, -1)
        x = x + linear(w, name + "self_attention.dense", attend(fused[:, :, 0], fused[:, :, 1], fused[:, :, 2], slopes))
        n = linear(w, name + "mlp.dense_h_to_4h", norm(w, name + "post_attention_layernorm", x))
        n = 0.5 * n * (1 + np.tanh(np.sqrt(2 / np.pi) * (n + 0.044715 * n**3)))
        x = x + linear(w, name + "mlp.dense_4h_to_h", n)
    return norm(w, "transformer.ln_f", x) @ w["transformer.word_embeddings.weight"].T


if __name__ == "__main__":
    folder, text = pathlib.Path(sys.argv[1]), sys.argv[2]
    config = json.loads((folder / "config.json").read_text())
    run = {"opt": opt, "bloom": bloom}[config["model_type"]]
    logits = run(config, tensors(folder / "model.safetensors"), np.array([0, *text.encode()]))[-1]
    print(", ".join(f"{value:.7f}" for value in logits[::32]))
