"""What a command is given: a spec, or the folder of a training run."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from compiler.cli.common import spec_folder
from compiler.errors import CompilerError
from compiler.run_directory import check_run, is_run
from netspec.cli.common import load_or_exit, show_diagnostics
from netspec.network import Network


@dataclass(frozen=True, slots=True)
class Found:
    """A network with its weights, None where none are given; a run's also with its labels and its folder.

    Attributes:
        home: the folder against which the spec's relative paths are taken.
    """

    network: Network
    weights: Path | None
    home: Path
    labels: tuple[str, ...] = ()
    run: Path | None = None


def find_source(source: str, settings: tuple[str, ...], weights: Path | None, changes: bool = False) -> Found:
    """The network of a spec, or of a run with its best weights, unless others are named.

    A spec's mistakes are shown and end the command with 1.

    Args:
        changes: whether `settings` may change what a run was started with.

    Raises:
        CompilerError: the folder holds no run, a damaged one, or one without weights.
    """
    folder = Path(source)
    if not folder.is_dir():
        network = load_or_exit(source, settings)
        return Found(network, weights, spec_folder(network.file))
    if not is_run(folder):
        raise CompilerError(f"`{folder}` is a folder, but holds no training run", "name a spec, or the --out of a run")
    if settings and not changes:
        raise CompilerError("a run has its settings already", "leave --set out, or export the spec")
    checked, facts = check_run(folder, settings)
    if checked.network is None:
        show_diagnostics(checked.obstacles, checked.omitted)
        sys.exit(1)
    labels = tuple(str(label) for label in facts.get("labels", []))
    home = spec_folder(str(facts.get("spec", folder)))
    return Found(checked.network, weights or _best_weights(folder), home, labels, folder)


def _best_weights(folder: Path) -> Path:
    path = folder / "best.safetensors"
    if not path.is_file():
        raise CompilerError(f"the run in `{folder}` has no weights yet", "let it finish an epoch")
    return path
