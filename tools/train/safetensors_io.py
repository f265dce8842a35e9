"""Writes safetensors: eight bytes of header length, a JSON header, the tensors' bytes."""
import json
import struct

import numpy as np

NAMES = {np.dtype("float16"): "F16", np.dtype("float32"): "F32"}


def save(path: str, tensors: dict) -> None:
    """Writes name -> numpy array in the dictionary's order; data starts on a multiple of 8."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, value in tensors.items():
        header[name] = {"dtype": NAMES[value.dtype], "shape": list(value.shape),
                        "data_offsets": [offset, offset + value.nbytes]}
        offset += value.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)))
        file.write(text)
        for value in tensors.values():
            file.write(np.ascontiguousarray(value).tobytes())
