"""The checkpoints of the authors' PyTorch code (denselink.py): their names, layout and files."""

import re
from typing import Any, Dict, Mapping

import numpy as np

from sparsenet.errors import UserError

FILES = (".safetensors", ".pt", ".pth", ".bin", ".tar")

# Pattern of a module there -> its scope here. Stages count from 0 there, blocks from 1 in a stage.
SCOPES = [
    (r"features\.conv0", "conv0"),
    (r"features\.dense-stage-(\d+)\.block-(\d+)\.((?:bn|conv)\d)", "block{0}/layer{1}/{2}"),
    (r"features\.transition-(\d+)\.((?:bn|conv)\d)", "transition{0}/{1}"),
    (r"features\.norm_last", "bn_last"),
    (r"classifier\.linear", "linear"),
]
# Of a batch normalisation; a convolution and the classifier have `weight` and `bias` as W and b.
BATCH_NORMALIZATION = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "mean/EMA",
    "running_var": "variance/EMA",
}
UNUSED = "num_batches_tracked"


def read(path: str) -> Dict[str, np.ndarray]:
    """Return the variables of a checkpoint of the PyTorch code, under this project's names.

    No code in the file is run. Raises UserError if it can't be read or holds other modules.
    """
    state = _read_safetensors(path) if path.endswith(".safetensors") else _read_torch(path)
    return from_state(state, path)


def from_state(state: Mapping[str, np.ndarray], path: str) -> Dict[str, np.ndarray]:
    """Return the arrays of a state_dict under this project's names and in its layout."""
    arrays = {}
    for key, value in state.items():
        key = re.sub(r"^module\.", "", key)  # of nn.DataParallel
        if not key.endswith(UNUSED):
            arrays[_name(key, path)] = _in_our_layout(np.asarray(value, np.float32))
    return arrays


def _name(key: str, path: str) -> str:
    """Return the name here of a parameter or buffer there."""
    module, _, attribute = key.rpartition(".")
    for pattern, scope in SCOPES:
        match = re.fullmatch(pattern, module)
        if match:
            parts = match.groups()
            if "transition" in scope:
                parts = (int(parts[0]) + 1, parts[1])
            elif "block" in scope:
                parts = (int(parts[0]) + 1, int(parts[1]) - 1, parts[2])
            scope = scope.format(*parts)
            is_norm = scope.rpartition("/")[2].startswith("bn")
            names = BATCH_NORMALIZATION if is_norm else {"weight": "W", "bias": "b"}
            if attribute in names:
                return "{}/{}".format(scope, names[attribute])
    accepted = "names such as features.conv0.weight, features.dense-stage-0.block-1.bn1.weight"
    raise UserError("{} holds `{}`; accepted: {}".format(path, key, accepted))


def _in_our_layout(value: np.ndarray) -> np.ndarray:
    """Return a kernel [out, in, h, w] as [h, w, in, out], a matrix [out, in] as [in, out]."""
    return np.ascontiguousarray(value.transpose((2, 3, 1, 0) if value.ndim == 4 else None))


def _read_safetensors(path: str) -> Dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise UserError("{} can't be read: {}".format(path, str(error).split("\n")[0]))


def _read_torch(path: str) -> Dict[str, np.ndarray]:
    """Return the tensors of torch.save's file; weights_only refuses whatever would run code."""
    try:
        import torch
    except ModuleNotFoundError:
        raise UserError(
            "{} needs PyTorch to be read; accepted: pip install torch, or .safetensors".format(path)
        )
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises nearly every built-in one
        reason = str(error).strip().split("\n")[0]
        raise UserError("{} can't be read as weights alone: {}".format(path, reason))
    for key in ("state_dict", "model", "net"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(map(torch.is_tensor, state.values())):
        raise UserError("{} holds no state_dict; accepted: one, also as `state_dict`".format(path))
    return {key: tensor.float().numpy() for key, tensor in state.items()}
