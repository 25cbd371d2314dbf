"""Weights to and from files: safetensors of our own, and PyTorch checkpoints of others, loaded without running code."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from compiler.errors import CompilerError
from compiler.files import whole_file
from netspec.network import Network

MAX_LISTED = 8
WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin")  # what files of weights are called
WRAPPED = "module."  # before every key of a module that DataParallel or DistributedDataParallel wraps


def save_weights(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Writes a state-dict as safetensors, whole or not at all.

    Raises:
        CompilerError: the file can't be written.
    """
    kept = {key: tensor.detach().to("cpu").contiguous() for key, tensor in tensors.items()}
    with whole_file(path) as temporary:
        try:
            save_file(kept, temporary, dict(metadata or {}))
        except SafetensorError as error:  # it tells the system's error in its own words, with the number at the end
            found = re.search(r"os error (\d+)", str(error))
            raise (
                OSError(int(found[1]), os.strerror(int(found[1]))) if found else OSError("the disk may be full")
            ) from None


def read_weights(path: Path) -> dict[str, Tensor]:
    """The state-dict in a safetensors file, or in a PyTorch checkpoint, of which only tensors are read.

    Which of them it is, is seen from the file's content, whatever it is called.

    Raises:
        CompilerError: the file can't be read, is corrupt, or holds anything but tensors.
    """
    if path.is_dir():
        found = sorted(str(file) for file in path.iterdir() if file.suffix in WEIGHTS)
        help = f"name the file in it: {', '.join(found[:MAX_LISTED])}" if found else "name a file of weights"
        raise CompilerError(f"`{path}` is a folder, not a weights file", help)
    if not path.is_file():
        raise CompilerError(f"there is no weights file `{path}`")
    try:
        if _is_safetensors(path):
            return load_file(path)
        # Warnings are of odd pickles: what can't be used is refused below. A file's name would count, if it had one.
        with warnings.catch_warnings(action="ignore"), path.open("rb") as file:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError:
        raise CompilerError(f"`{path}` is not a safetensors file, or is damaged") from None
    except pickle.UnpicklingError:
        help = "only tensors are read from checkpoints, so that a file can't run code; save the model's state_dict()"
        raise CompilerError(f"`{path}` holds more than tensors, or is no PyTorch checkpoint", help) from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged, or something else"
        raise CompilerError(f"`{path}` can't be read as a PyTorch checkpoint: {reason}") from None
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CompilerError(f"`{path}` holds no state-dict", "save the model's state_dict()")
    return _untied(found)


def _untied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, none of which lies in another's memory: layers that the spec doesn't share train each their own."""
    own = dict(tensors)
    end = 0
    for key, tensor in sorted(tensors.items(), key=lambda item: 0 if _unusable(item[1]) else item[1].data_ptr()):
        if _unusable(tensor) or not tensor.is_contiguous():
            continue  # is refused, or copied when a module takes it
        begin = tensor.data_ptr()
        if begin < end:
            own[key] = tensor.clone()
        end = max(end, begin + tensor.nbytes)
    return own


def _is_safetensors(path: Path) -> bool:
    """Whether a file is read as safetensors: a header of JSON after its length, 8 bytes.

    A file that is called so is as well, unless it begins as PyTorch's archives or pickles do.
    """
    with path.open("rb") as file:
        begin = file.read(9)
    if begin[8:] == b"{" and int.from_bytes(begin[:8], "little") <= path.stat().st_size:
        return True
    return path.suffix == ".safetensors" and not begin.startswith((b"PK", b"\x80"))


def fitting_weights(network: Network, path: Path) -> dict[str, Tensor]:
    """The state-dict in a file, which is one of this network.

    Raises:
        CompilerError: the file can't be read, or its keys or shapes are not the network's; what differs is listed.
    """
    return fitted(network, read_weights(path), f"`{path}`")


def fitted(network: Network, tensors: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """A state-dict, which is one of this network; what DataParallel puts before its keys is taken off.

    Args:
        source: where it comes from, for messages.

    Raises:
        CompilerError: its keys or shapes are not the network's, or its tensors are no plain numbers; what differs is
            listed.
    """
    weights = dict(network.state_dict())
    wanted = {key: weight.shape for key, weight in weights.items()}
    found = dict(tensors)
    if found and all(key.startswith(WRAPPED) for key in found) and not any(key.startswith(WRAPPED) for key in wanted):
        found = {key.removeprefix(WRAPPED): tensor for key, tensor in found.items()}
    for key, shape in wanted.items():
        # Counters of seen batches are often left out of checkpoints; they matter to no result.
        if key not in found and key.endswith("num_batches_tracked"):
            found[key] = torch.zeros(shape, dtype=torch.int64)
    missing = [key for key in wanted if key not in found]
    unexpected = [key for key in found if key not in wanted]
    misshapen = [
        f"{key}: {_shape(found[key].shape)} given, {_shape(shape)} in the spec"
        for key, shape in wanted.items()
        if key in found and tuple(found[key].shape) != shape
    ]
    odd = [
        f"{key}: {what}"
        for key, weight in weights.items()
        if key in found and (what := _unusable(found[key], trained=weight.kind == "parameter"))
    ]
    if missing or unexpected or misshapen:
        lines = [f"{source} holds the weights of another network"]
        for title, keys in (
            ("missing", missing),
            ("not in the spec", unexpected),
            ("of another shape", misshapen),
        ):
            if keys:
                more = [f"… and {len(keys) - MAX_LISTED} more"] if len(keys) > MAX_LISTED else []
                lines.append(f"  {title} ({len(keys)}):")
                lines += [f"    {key}" for key in [*keys[:MAX_LISTED], *more]]
        raise CompilerError("\n".join(lines), "give the weights that belong to this spec and these arguments")
    if odd:
        lines = [f"{source} holds weights that can't be computed with"]
        lines += [f"  {line}" for line in odd[:MAX_LISTED]]
        lines += [f"  … and {len(odd) - MAX_LISTED} more"] if len(odd) > MAX_LISTED else []
        raise CompilerError("\n".join(lines), "save them as dense tensors of floating-point numbers")
    return found


def _unusable(tensor: Tensor, trained: bool = False) -> str:
    """Why a tensor can't be a layer's; "" where it can."""
    if tensor.layout is not torch.strided:
        return "sparse"
    if tensor.device.type == "meta":
        return "a shape without numbers, on the device `meta`"
    if tensor.is_quantized or tensor.is_complex() or (trained and not tensor.is_floating_point()):
        return str(tensor.dtype).removeprefix("torch.")
    return ""


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The tensors that hold NaN or infinity, each with how many of its numbers are such."""
    counts = {key: int((~torch.isfinite(tensor)).sum()) for key, tensor in tensors.items()}
    return [f"{key}: {count:,} of {tensors[key].numel():,}" for key, count in counts.items() if count]


def _shape(shape: Sequence[int]) -> str:
    return " × ".join(str(size) for size in shape) or "one number"
