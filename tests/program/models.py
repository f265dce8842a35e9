"""Tiny model files, whole and broken: written byte by byte here, so that nothing of the loaders is trusted."""
import json
import random
import struct
from pathlib import Path

CONFIG = {
    "model_type": "llama", "hidden_act": "silu", "bos_token_id": 0, "vocab_size": 256, "hidden_size": 16, "intermediate_size": 12,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
}
SENTENCE = "He was waiting for an answer, and she could not give him one: it was past dinner, and nobody had asked whether they would stay. "
Q = "model.layers.0.self_attn.q_proj.weight"
HEAD = "lm_head.weight"
TRAINED = Path(__file__).resolve().parents[2] / "models"


def shapes(c):
    """Names and shapes of a Hugging Face LLaMA, in the file's order."""
    dim, hidden = c["hidden_size"], c["intermediate_size"]
    kv = dim // c["num_attention_heads"] * c["num_key_value_heads"]
    result = {"model.embed_tokens.weight": [c["vocab_size"], dim]}
    for layer in range(c["num_hidden_layers"]):
        part = f"model.layers.{layer}."
        for name, shape in (("input_layernorm", [dim]), ("self_attn.q_proj", [dim, dim]), ("self_attn.k_proj", [kv, dim]),
                            ("self_attn.v_proj", [kv, dim]), ("self_attn.o_proj", [dim, dim]), ("post_attention_layernorm", [dim]),
                            ("mlp.gate_proj", [hidden, dim]), ("mlp.up_proj", [hidden, dim]), ("mlp.down_proj", [dim, hidden])):
            result[part + name + ".weight"] = shape
    result["model.norm.weight"] = [dim]
    result[HEAD] = [c["vocab_size"], dim]
    return result


def product(shape):
    count = 1
    for size in shape:
        count *= size
    return count


def weights(c, seed=1811):
    """Values of every tensor: multiples of 1/256, around 1 in the norms."""
    chance = random.Random(seed)
    result = {}
    for name, shape in shapes(c).items():
        middle = 1.0 if len(shape) == 1 else 0.0
        result[name] = [middle + chance.randrange(-128, 129) / 256 for _ in range(product(shape))]
    return result


def safetensors(c, values, change=None):
    """The file; `change(header)` may spoil the entries before they are written."""
    header, data = {}, b""
    for name, shape in shapes(c).items():
        piece = struct.pack(f"<{product(shape)}f", *values[name])
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(piece)]}
        data += piece
    if change:
        change(header)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def write_model(folder, config=None, tensors=None):
    """A folder with config.json and model.safetensors; either may be given as bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes(json.dumps(CONFIG).encode() if config is None else config)
    (folder / "model.safetensors").write_bytes(safetensors(CONFIG, weights(CONFIG)) if tensors is None else tensors)
    return folder


def llama2c(header=(16, 12, 1, 2, 1, 259, 32), count=None):
    """dim, hidden, layers, heads, kv heads, vocabulary (negative: a head of its own), length; then `count` weights."""
    dim, hidden, layers, heads, kv_heads, vocabulary, length = header
    if count is None:
        kv = dim // heads * kv_heads
        one = 2 * dim + 2 * dim * dim + 2 * kv * dim + 3 * hidden * dim
        count = vocabulary * dim + layers * one + dim + length * (dim // heads)
    chance = random.Random(7)
    return struct.pack("<7i", *header) + struct.pack(f"<{count}f", *(chance.randrange(-64, 65) / 128 for _ in range(count)))


def vocabulary():
    """llama2.c's tokenizer: three marks and the bytes, with scores of 0."""
    pieces = [b"<unk>", b"\n<s>\n", b"\n</s>\n"] + [f"<0x{byte:02X}>".encode() for byte in range(256)]
    return struct.pack("<i", 16) + b"".join(struct.pack("<fi", 0.0, len(p)) + p for p in pieces)
