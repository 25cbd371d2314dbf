"""What a training run leaves behind, and how it is picked up again.

`spec.yaml` and `run.json` say what was run, `checkpoint.pt` where it stands, `metrics.jsonl` how it went (one JSON
object an epoch); `best.safetensors` and `last.safetensors` are the weights, `pictures/` shows held-out images. Every
file is written whole or not at all.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from compiler.errors import CompilerError
from compiler.files import whole_file, write_text
from compiler.metrics import Metrics
from compiler.training import Run, State
from compiler.weights import save_weights
from netspec.loading import Checked, check
from netspec.network import Network

CHECKPOINT = "checkpoint.pt"
RUN_FILES = (
    "run.json", "spec.yaml", CHECKPOINT, "metrics.jsonl", "best.safetensors", "last.safetensors", "report.md",
    "curves.png", "confusion.png",
)  # fmt: skip

PICTURES = "pictures"  # the folder of `epoch_001.png` and so on


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return (path / "run.json").is_file() and (path / "spec.yaml").is_file()


def start_run(path: Path, network: Network, settings: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """Writes what is being run.

    Raises:
        CompilerError: the folder can't be written to.
    """
    facts = {
        "name": network.name,
        "spec": network.file,
        "settings": list(settings),
        "labels": list(labels),
        "torch": torch.__version__,
    }
    write_text(path / "spec.yaml", network.text)
    write_text(path / "run.json", json.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def clear_run(path: Path) -> None:
    """Removes what a run leaves, and nothing else that may stand in the folder."""
    for name in RUN_FILES:
        (path / name).unlink(missing_ok=True)
    for picture in (path / PICTURES).glob("epoch_*.png"):
        picture.unlink()


def read_facts(path: Path) -> dict[str, Any]:
    """The content of `run.json`.

    Raises:
        CompilerError: it is missing or damaged.
    """
    file = path / "run.json"
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is damaged"
        raise CompilerError(f"`{file}` can't be read: {reason}") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("settings"), list):
        raise CompilerError(f"`{file}` does not say with what settings the run was started")
    return facts


def check_run(path: Path, changes: Sequence[str] = ()) -> tuple[Checked, dict[str, Any]]:
    """The spec of a run, checked with the run's settings and then these, and the run's facts.

    Raises:
        CompilerError: the folder holds no run, or a damaged one.
    """
    facts = read_facts(path)
    return check(path / "spec.yaml", [*map(str, facts["settings"]), *changes]), facts


def save_checkpoint(path: Path, run: Run) -> None:
    """Writes all that the run needs to go on from here.

    Raises:
        CompilerError: it can't be written.
    """
    state = asdict(run.state)
    content = {
        "state": state,
        "module": run.module.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if run.device.type == "cuda" else [],
    }
    with whole_file(path / CHECKPOINT) as temporary, temporary.open("wb") as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # the archive writer's own; what the system said stands behind it
            cause = error.__context__
            raise (cause if isinstance(cause, OSError) else OSError("the disk may be full")) from None


def restore(path: Path, run: Run) -> bool:
    """Puts a run where its checkpoint says; false where there is none yet.

    Raises:
        CompilerError: the checkpoint is damaged or belongs to another network.
    """
    file = path / CHECKPOINT
    if not file.is_file():
        return False
    help = "start anew with `--overwrite`, or with another `--out`"
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = f"can't be read: {error.strerror}" if isinstance(error, OSError) and error.strerror else "is damaged"
        raise CompilerError(f"`{file}` {reason}", help) from None
    try:
        run.module.load_state_dict(content["module"])
        run.optimizer.load_state_dict(content["optimizer"])
        run.scaler.load_state_dict(content["scaler"])
        state = content["state"]
        state["history"] = [Metrics(**metrics) for metrics in state["history"]]
        run.state = State(**state)
        torch.set_rng_state(content["rng"])
        if run.device.type == "cuda" and content["cuda_rng"]:
            torch.cuda.set_rng_state_all(content["cuda_rng"])
    except (RuntimeError, ValueError, KeyError, TypeError):
        raise CompilerError(f"`{file}` is not a checkpoint of this network and recipe", help) from None
    return True


def save_epoch(path: Path, run: Run, is_best: bool) -> None:
    """Writes the weights and the metrics of the epochs so far.

    Raises:
        CompilerError: a file can't be written.
    """
    weights = run.module.state_dict()
    facts = {"epoch": str(run.state.epoch)}
    save_weights(weights, path / "last.safetensors", facts)
    if is_best:
        save_weights(weights, path / "best.safetensors", facts)
    lines = [json.dumps(metrics.line()) for metrics in run.state.history]
    write_text(path / "metrics.jsonl", "\n".join(lines) + "\n")


def save_picture(path: Path, run: Run) -> None:
    """Draws what the network makes of a few held-out samples, after an epoch in which they were evaluated.

    Raises:
        CompilerError: the file can't be written.
    """
    metrics = run.state.history[-1]
    picture = run.evaluation.picture() if metrics.test and run.evaluation else None
    if picture is not None:
        with whole_file(path / picture_name(metrics.epoch)) as temporary:
            picture.save(temporary, format="PNG")


def picture_name(epoch: int) -> str:
    """Where a run's folder has the picture of an epoch, which is counted from 0."""
    return f"{PICTURES}/epoch_{epoch + 1:03}.png"
