"""A LLaMA in PyTorch with Hugging Face's parameter names; every matmul in bfloat16, everything else in float32."""
import math

import torch
from torch import nn

BOS = 0  # byte 0 does not occur in text: it starts every window and gives attention a place to rest


class Config:
    """The embedded model."""
    vocab_size, hidden_size, num_hidden_layers = 256, 256, 4
    num_attention_heads, num_key_value_heads, intermediate_size = 4, 2, 640
    max_position_embeddings, rope_theta, rms_norm_eps = 512, 10000.0, 1e-5

    def as_hugging_face(self) -> dict:
        names = ["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                 "intermediate_size", "max_position_embeddings", "rope_theta", "rms_norm_eps"]
        return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
                "bos_token_id": BOS, "eos_token_id": None, "tie_word_embeddings": False, "torch_dtype": "float16",
                **{name: getattr(self, name) for name in names}}


class DeepConfig(Config):
    """Three times as many layers in half the weights: where to prune is a question of depth."""
    hidden_size, num_hidden_layers = 96, 12
    num_attention_heads, num_key_value_heads, intermediate_size = 3, 1, 256


CONFIGS = {"austen": Config, "austen-deep": DeepConfig}


class Linear(nn.Module):
    def __init__(self, inputs: int, outputs: int, gain: float = 1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * (gain / math.sqrt(inputs)))

    def forward(self, x):  # [..., inputs] -> [..., outputs], bfloat16
        return nn.functional.linear(x.bfloat16(), self.weight.bfloat16())


class Norm(nn.Module):
    def __init__(self, channels: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(channels)), eps

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


def rotate(x, cos, sin):  # [batch, heads, time, size]; Hugging Face's halves
    first, second = x.float().chunk(2, -1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).bfloat16()


class Attention(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.heads, self.kv_heads = c.num_attention_heads, c.num_key_value_heads
        self.size = c.hidden_size // self.heads
        self.q_proj = Linear(c.hidden_size, self.heads * self.size)
        self.k_proj = Linear(c.hidden_size, self.kv_heads * self.size)
        self.v_proj = Linear(c.hidden_size, self.kv_heads * self.size)
        self.o_proj = Linear(c.hidden_size, c.hidden_size, 0.3)

    def forward(self, x, cos, sin, mask):
        batch, time, channels = x.shape
        split = lambda y, heads: y.view(batch, time, heads, self.size).transpose(1, 2)
        q, k = rotate(split(self.q_proj(x), self.heads), cos, sin), rotate(split(self.k_proj(x), self.kv_heads), cos, sin)
        v = split(self.v_proj(x), self.kv_heads)
        # the query heads of one key head are rows of one matrix: nothing is repeated
        q = q.reshape(batch * self.kv_heads, -1, self.size)
        k, v = k.reshape(batch * self.kv_heads, time, self.size), v.reshape(batch * self.kv_heads, time, self.size)
        scores = torch.bmm(q, k.transpose(1, 2)).float().view(-1, time, time) * self.size ** -0.5 + mask
        p = torch.softmax(scores, -1).bfloat16().view(batch * self.kv_heads, -1, time)
        y = torch.bmm(p, v).view(batch, self.heads, time, self.size).transpose(1, 2).reshape(batch, time, channels)
        return self.o_proj(y)


class Mlp(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.gate_proj = Linear(c.hidden_size, c.intermediate_size)
        self.up_proj = Linear(c.hidden_size, c.intermediate_size)
        self.down_proj = Linear(c.intermediate_size, c.hidden_size, 0.3)

    def forward(self, x):
        return self.down_proj(nn.functional.silu(self.gate_proj(x).float()) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = (Norm(c.hidden_size, c.rms_norm_eps) for _ in range(2))
        self.self_attn, self.mlp = Attention(c), Mlp(c)

    def forward(self, x, *rest):
        x = x + self.self_attn(self.input_layernorm(x), *rest)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, c: Config):
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(Layer(c) for _ in range(c.num_hidden_layers))
        self.norm, self.lm_head = Norm(c.hidden_size, c.rms_norm_eps), Linear(c.hidden_size, c.vocab_size)
        size = c.hidden_size // c.num_attention_heads
        angles = torch.outer(torch.arange(c.max_position_embeddings).float(),
                             c.rope_theta ** (-torch.arange(0, size, 2).float() / size))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        mask = torch.full((c.max_position_embeddings,) * 2, -1e30).triu(1)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens):  # [batch, time] -> logits [batch, time, vocabulary], float32
        time = tokens.shape[1]
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:time], self.sin[:time], self.mask[:time, :time])
        return self.lm_head(self.norm(x)).float()

    def hugging_face_state(self) -> dict:
        return {(name if name.startswith("lm_head") else f"model.{name}"): value.detach().cpu().float().numpy()
                for name, value in self.state_dict().items()}
