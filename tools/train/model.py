"""LLaMA, OPT and BLOOM in PyTorch, written with Hugging Face's parameter names; every matmul in bfloat16, everything else in float32."""
import math

import numpy as np
import torch
from torch import nn

BOS = 0  # byte 0 does not occur in text: it starts every window and gives attention a place to rest
OFFSET = 2  # of the rows of OPT's learned positions


class Config:
    """The embedded model, a LLaMA. What another family does otherwise is in the class attributes behind `family`."""
    vocab_size, hidden_size, num_hidden_layers = 256, 256, 4
    num_attention_heads, num_key_value_heads, intermediate_size = 4, 2, 640
    max_position_embeddings, rope_theta, norm_eps = 512, 10000.0, 1e-5

    family, architecture, prefix = "llama", "LlamaForCausalLM", "model."
    positions, activation, gated = "rope", "silu", True
    layer_norm, embedding_norm, bias, tied = False, False, False, False
    names = {}  # parts of the parameters' names that are not as LLaMA's

    def as_hugging_face(self) -> dict:
        return {**self.common(), "num_key_value_heads": self.num_key_value_heads, "intermediate_size": self.intermediate_size,
                "hidden_act": "silu", "rope_theta": self.rope_theta, "rms_norm_eps": self.norm_eps}

    def common(self) -> dict:
        names = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "max_position_embeddings"]
        return {"architectures": [self.architecture], "model_type": self.family, "bos_token_id": BOS, "eos_token_id": None,
                "tie_word_embeddings": self.tied, "torch_dtype": "float16", **{name: getattr(self, name) for name in names}}


class DeepConfig(Config):
    """Three times as many layers in half the weights: where to prune is a question of depth."""
    hidden_size, num_hidden_layers = 96, 12
    num_attention_heads, num_key_value_heads, intermediate_size = 3, 1, 256


class OptConfig(Config):
    hidden_size, num_hidden_layers = 128, 6
    num_attention_heads, num_key_value_heads, intermediate_size = 4, 4, 512
    family, architecture, prefix = "opt", "OPTForCausalLM", "model.decoder."
    positions, activation, gated = "learned", "relu", False
    layer_norm, bias, tied = True, True, True
    names = {"input_layernorm": "self_attn_layer_norm", "post_attention_layernorm": "final_layer_norm", "o_proj": "out_proj",
             "mlp.up_proj": "fc1", "mlp.down_proj": "fc2", "norm.": "final_layer_norm."}

    def as_hugging_face(self) -> dict:
        return {**self.common(), "ffn_dim": self.intermediate_size, "word_embed_proj_dim": self.hidden_size, "dropout": 0.0,
                "activation_function": "relu", "do_layer_norm_before": True, "enable_bias": True,
                "layer_norm_elementwise_affine": True}


class BloomConfig(OptConfig):
    family, architecture, prefix = "bloom", "BloomForCausalLM", "transformer."
    positions, activation, embedding_norm = "alibi", "gelu", True
    names = {"embed_tokens": "word_embeddings", "embed_norm": "word_embeddings_layernorm", "layers.": "h.", "norm.": "ln_f.",
             "self_attn.o_proj": "self_attention.dense", "mlp.up_proj": "mlp.dense_h_to_4h", "mlp.down_proj": "mlp.dense_4h_to_h"}

    def as_hugging_face(self) -> dict:
        names = {"num_hidden_layers": "n_layer", "num_attention_heads": "n_head", "max_position_embeddings": "seq_length"}
        return {**{names.get(name, name): value for name, value in self.common().items()}, "layer_norm_epsilon": self.norm_eps,
                "apply_residual_connection_post_layernorm": False, "hidden_dropout": 0.0, "attention_dropout": 0.0}


CONFIGS = {"austen": Config, "austen-deep": DeepConfig, "austen-opt": OptConfig, "austen-bloom": BloomConfig}


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, bias: bool, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * (gain / math.sqrt(inputs)))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x):  # [..., inputs] -> [..., outputs], bfloat16
        bias = None if self.bias is None else self.bias.bfloat16()
        return nn.functional.linear(x.bfloat16(), self.weight.bfloat16(), bias)


def make_norm(c):
    return (nn.LayerNorm if c.layer_norm else RmsNorm)(c.hidden_size, c.norm_eps)


class RmsNorm(nn.Module):
    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(channels)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x, cos, sin):  # [batch, heads, time, size]; Hugging Face's halves
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).bfloat16()


def slopes(heads: int):
    """ALiBi's slopes as Hugging Face's BLOOM has them: powers of 2^(-8/n), n the power of two below; odd ones between for the rest."""
    n = 2 ** int(math.log2(heads))
    powers = [2 ** (-8 / n * (i + 1)) for i in range(n)]
    return torch.tensor(powers + [2 ** (-4 / n * (2 * i + 1)) for i in range(heads - n)])


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.kv_heads = c.num_attention_heads, c.num_key_value_heads
        self.size = c.hidden_size // self.heads
        self.q_proj = Linear(c.hidden_size, self.heads * self.size, c.bias)
        self.k_proj = Linear(c.hidden_size, self.kv_heads * self.size, c.bias)
        self.v_proj = Linear(c.hidden_size, self.kv_heads * self.size, c.bias)
        self.o_proj = Linear(c.hidden_size, c.hidden_size, c.bias, 0.3)

    def forward(self, x, rotation, mask):  # rotation: cos and sin, or nothing; mask: [1 or heads, time, time]
        batch, time, channels = x.shape
        split = lambda y, heads: y.view(batch, time, heads, self.size).transpose(1, 2)
        q, k, v = split(self.q_proj(x), self.heads), split(self.k_proj(x), self.kv_heads), split(self.v_proj(x), self.kv_heads)
        if rotation:
            q, k = rotate(q, *rotation), rotate(k, *rotation)
        # the query heads of one key head are rows of one matrix: nothing is repeated
        q = q.reshape(batch * self.kv_heads, -1, self.size)
        k, v = k.reshape(batch * self.kv_heads, time, self.size), v.reshape(batch * self.kv_heads, time, self.size)
        scores = torch.bmm(q, k.transpose(1, 2)).float().view(batch, self.heads, time, time) * self.size ** -0.5 + mask
        p = torch.softmax(scores, -1).bfloat16().view(batch * self.kv_heads, -1, time)
        y = torch.bmm(p, v).view(batch, self.heads, time, self.size).transpose(1, 2).reshape(batch, time, channels)
        return self.o_proj(y)


class Mlp(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = Linear(c.hidden_size, c.intermediate_size, c.bias) if c.gated else None
        self.up_proj = Linear(c.hidden_size, c.intermediate_size, c.bias)
        self.down_proj = Linear(c.intermediate_size, c.hidden_size, c.bias, 0.3)
        self.activation = {"silu": nn.SiLU(), "relu": nn.ReLU(), "gelu": nn.GELU(approximate="tanh")}[c.activation]

    def forward(self, x):
        if self.gate_proj is None:
            return self.down_proj(self.activation(self.up_proj(x).float()))
        return self.down_proj(self.activation(self.gate_proj(x).float()) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = make_norm(c), make_norm(c)
        self.self_attn, self.mlp = Attention(c), Mlp(c)

    def forward(self, x, *rest):
        x = x + self.self_attn(self.input_layernorm(x), *rest)
        return x + self.mlp(self.post_attention_layernorm(x))


class Transformer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config, length = c, c.max_position_embeddings
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        if c.positions == "learned":
            self.embed_positions = nn.Embedding(length + OFFSET, c.hidden_size)
        if c.tied:  # small: what predicts the next byte must not begin as what repeats the last one
            for embedding in self.children():
                nn.init.normal_(embedding.weight, std=0.02)
        if c.embedding_norm:
            self.embed_norm = make_norm(c)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm = make_norm(c)
        if not c.tied:
            self.lm_head = Linear(c.hidden_size, c.vocab_size, False)
        size = c.hidden_size // c.num_attention_heads
        angles = torch.outer(torch.arange(length).float(), c.rope_theta ** (-torch.arange(0, size, 2).float() / size))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        mask = torch.full((1, length, length), -1e30).triu(1)
        if c.positions == "alibi":
            mask = mask + slopes(c.num_attention_heads).view(-1, 1, 1) * torch.arange(length).view(1, 1, -1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens):  # [batch, time] -> logits [batch, time, vocabulary], float32
        c, time = self.config, tokens.shape[1]
        x = self.embed_tokens(tokens)
        if c.positions == "learned":
            x = x + self.embed_positions.weight[OFFSET:OFFSET + time]
        if c.embedding_norm:
            x = self.embed_norm(x)
        rotation = (self.cos[:time], self.sin[:time]) if c.positions == "rope" else ()
        for layer in self.layers:
            x = layer(x, rotation, self.mask[:, :time, :time])
        x = self.norm(x)
        if not c.tied:
            return self.lm_head(x).float()
        return nn.functional.linear(x.bfloat16(), self.embed_tokens.weight.bfloat16()).float()

    def hugging_face_state(self) -> dict:
        c, state = self.config, {}
        for name, value in self.state_dict().items():
            if name.startswith("norm."):  # the final one is no part of other names
                name = name.replace("norm.", c.names.get("norm.", "norm."))
            for part, other in c.names.items():
                name = name if part == "norm." else name.replace(part, other)
            state[name if name.startswith("lm_head") else c.prefix + name] = value.detach().cpu().float().numpy()
        return fuse(state, c.num_attention_heads) if c.family == "bloom" else state


def fuse(state: dict, heads: int) -> dict:
    """Queries, keys and values as one tensor, head by head: [heads, 3, head_dim, ...]."""
    out = {}
    for name, value in state.items():
        if ".q_proj." in name:
            parts = [state[name.replace("q_proj", f"{part}_proj")] for part in "qkv"]
            parts = [part.reshape(heads, -1, *part.shape[1:]) for part in parts]
            out[name.replace("self_attn.q_proj", "self_attention.query_key_value")] = np.stack(parts, 1).reshape(-1, *value.shape[1:])
        elif not (".k_proj." in name or ".v_proj." in name):
            out[name] = value
    return out
