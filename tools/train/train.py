#!/usr/bin/python3
"""Trains a byte-level LLaMA, OPT or BLOOM and writes model.safetensors, config.json, the loss curve and the final figure.

Matrices are trained by Muon (momentum, orthogonalised by five Newton-Schulz steps), which needs about half the steps of
Adam here; embeddings, norms and the head by Adam. Runs on a GPU where there is one, else in bfloat16 by oneDNN.
"""
# glibc hands large blocks back to the system at every free, which costs half the time of a step on a CPU: run with
#   MALLOC_MMAP_THRESHOLD_=8000000000 MALLOC_TRIM_THRESHOLD_=16000000000 MALLOC_TOP_PAD_=500000000
import argparse
import csv
import json
import math
import os
import sys
import time

import numpy as np
import torch

import safetensors_io
import text
from model import BOS, CONFIGS, Transformer

LENGTH = 512


def windows(data: bytes, starts, length: int = LENGTH) -> torch.Tensor:
    """Inputs are BOS and all bytes of a window but the last, targets its bytes: [len(starts), length + 1]."""
    rows = [np.frombuffer(data, np.uint8, length, int(start)) for start in starts]
    tokens = torch.from_numpy(np.stack(rows).astype(np.int64))
    return torch.cat((torch.full((len(rows), 1), BOS), tokens), 1)


def bits_per_byte(model, data: bytes, device, limit=None) -> float:
    """Mean over non-overlapping windows of 512 bytes, each with nothing before it but BOS."""
    starts = list(range(0, len(data) - LENGTH + 1, LENGTH))[:limit]
    total = 0.0
    model.eval()
    with torch.no_grad():
        for first in range(0, len(starts), 16):
            batch = windows(data, starts[first:first + 16]).to(device)
            logits = model(batch[:, :-1])
            total += torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), reduction="sum").item()
    model.train()
    return total / (len(starts) * LENGTH) / math.log(2)


def orthogonalise(g: torch.Tensor) -> torch.Tensor:
    """[count, rows, columns]: singular values to about 1, by the quintic Newton-Schulz iteration."""
    x = g.bfloat16()
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.transpose(1, 2)
    x = x / (x.float().pow(2).sum((1, 2), keepdim=True).sqrt() + 1e-7).bfloat16()
    for _ in range(5):
        gram = torch.bmm(x, x.transpose(1, 2))
        x = 3.4445 * x + torch.bmm(-4.7750 * gram + 2.0315 * torch.bmm(gram, gram), x)
    return (x if wide else x.transpose(1, 2)).float()


class Muon:
    """Momentum 0.95 (Nesterov), orthogonalised; matrices of one shape are done together."""

    def __init__(self, parameters, decay: float):
        groups = {}
        for p in parameters:
            groups.setdefault(tuple(p.shape), []).append(p)
        self.groups = [(ps, torch.zeros(len(ps), *ps[0].shape, device=ps[0].device)) for ps in groups.values()]
        self.decay = decay

    @torch.no_grad()
    def step(self, rate: float) -> None:
        for parameters, momentum in self.groups:
            g = torch.stack([p.grad for p in parameters])
            momentum.mul_(0.95).add_(g)
            update = orthogonalise(g + 0.95 * momentum)
            scale = rate * math.sqrt(max(1.0, g.shape[1] / g.shape[2]))
            for p, u in zip(parameters, update):
                p.mul_(1 - rate * self.decay).add_(u, alpha=-scale)

    def state(self):
        return [momentum for _, momentum in self.groups]


def rate_at(step: int, steps: int) -> float:
    """Warm up over 50 steps, hold, then fall linearly to 2 % over the last 44 % of the run."""
    return min(1.0, (step + 1) / 50, 0.02 + 0.98 * (steps - step) / (0.44 * steps))


def plot(curve, path: str, final: float) -> None:
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot([row[0] for row in curve], [row[1] for row in curve], label="training (mean since the last point)")
    axes.plot([row[0] for row in curve], [row[2] for row in curve], label="validation (32 KiB of the novel kept out)")
    axes.axhline(final, linestyle=":", color="grey", label=f"whole novel, half precision: {final:.3f}")
    axes.set(xlabel="step", ylabel="bits per byte", ylim=(1.25, 3.5))
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", required=True, help="folder to write to; an interrupted run found there goes on")
    parser.add_argument("--model", choices=CONFIGS, default="austen")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=16, help="windows of 512 bytes a step")
    parser.add_argument("--rate", type=float, default=0.02, help="of the matrices; the rest learns at a fifth of it")
    parser.add_argument("--decay", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=1813)
    parser.add_argument("--every", type=int, default=100, help="steps between validations and checkpoints")
    arguments = parser.parse_args()
    os.makedirs(arguments.out, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(arguments.seed)
    training, validation = text.training_text(), text.validation_text()

    model = Transformer(CONFIGS[arguments.model]()).to(device)
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("layers")]
    others = [p for name, p in model.named_parameters() if not (p.ndim == 2 and name.startswith("layers"))]
    muon, adam = Muon(matrices, arguments.decay), torch.optim.Adam(others, betas=(0.9, 0.98), eps=1e-10)
    step, curve, checkpoint = 0, [], os.path.join(arguments.out, "checkpoint.pt")
    if os.path.exists(checkpoint):
        saved = torch.load(checkpoint, map_location=device)
        model.load_state_dict(saved["model"])
        adam.load_state_dict(saved["adam"])
        for mine, theirs in zip(muon.state(), saved["muon"]):
            mine.copy_(theirs)
        step, curve = saved["step"], saved["curve"]

    sums, count, began, first = 0.0, 0, time.time(), step
    while step < arguments.steps:
        generator = np.random.default_rng([arguments.seed, step])  # by step: a resumed run sees the same windows
        # short windows first: attention is the slow part; but a learned position has to be seen
        is_short = step < 0.75 * arguments.steps and model.config.positions != "learned"
        length = LENGTH // 2 if is_short else LENGTH
        starts = generator.integers(0, len(training) - length, arguments.batch * LENGTH // length)
        batch = windows(training, starts, length).to(device)
        logits = model(batch[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        model.zero_grad(set_to_none=True)
        loss.backward()
        rate = arguments.rate * rate_at(step, arguments.steps)
        muon.step(rate)
        for group in adam.param_groups:
            group["lr"] = rate / 5
        adam.step()
        step, sums, count = step + 1, sums + loss.item() / math.log(2), count + 1
        if step % arguments.every == 0 or step == arguments.steps:
            curve.append((step, sums / count, bits_per_byte(model, validation, device, 64)))
            left = (time.time() - began) / (step - first) * (arguments.steps - step)
            print(f"step {step} of {arguments.steps}: training {curve[-1][1]:.4f}, validation {curve[-1][2]:.4f} "
                  f"bits per byte, {left / 60:.0f} min left", flush=True)
            sums, count = 0.0, 0
            torch.save({"model": model.state_dict(), "adam": adam.state_dict(), "muon": muon.state(), "step": step,
                        "curve": curve}, checkpoint)

    tensors = {name: value.astype(np.float16) for name, value in model.hugging_face_state().items()}
    # the figure is of what is shipped: half precision
    model.load_state_dict({name: value.half().float() for name, value in model.state_dict().items()})
    final = bits_per_byte(model, validation, device)
    path = lambda name: os.path.join(arguments.out, name)
    safetensors_io.save(path("model.safetensors"), tensors)
    with open(path("config.json"), "w") as file:
        json.dump(model.config.as_hugging_face(), file, indent=1)
        file.write("\n")
    with open(path("loss.csv"), "w", newline="") as file:
        csv.writer(file).writerows([("step", "training", "validation"), *curve])
    with open(path("training.json"), "w") as file:
        json.dump({"seed": arguments.seed, "steps": arguments.steps, "batch": arguments.batch, "rate": arguments.rate,
                   "decay": arguments.decay, "torch": torch.__version__, "device": device,
                   "bits_per_byte": round(final, 4), "validation": text.VALIDATION}, file, indent=1)
        file.write("\n")
    with open(path("persuasion_64k.txt"), "wb") as file:
        file.write(validation[:validation.rindex(b"\n", 0, 65536) + 1])
    plot(curve, path("loss.png"), final)
    print(f"{final:.4f} bits per byte on the whole of {text.VALIDATION} ({len(validation)} bytes)")


if __name__ == "__main__":
    sys.exit(main())
