"""Training as a user sees it: what a run leaves, how it survives being stopped, and what wrong data give."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import compiler.training as training
from compiler.cli.common import choose_device
from compiler.data import load_data
from compiler.errors import CompilerError
from compiler.module import build
from compiler.tasks.outputs import make_loss
from compiler.training import learning_rate
from netspec import load

Run = Callable[..., subprocess.CompletedProcess[str]]

FILES = {
    "best.safetensors", "last.safetensors", "checkpoint.pt", "metrics.jsonl", "curves.png", "confusion.png",
    "report.md", "run.json", "spec.yaml",
}  # fmt: skip


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "netspec", "train", *map(str, arguments)]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def test_a_run_learns_and_leaves_weights_metrics_pictures_and_a_report(netspec: Run, tmp_path: Path) -> None:
    done = netspec("train", "mlp", "--out", "run", "--epochs", 8)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "run"
    assert {file.name for file in run.iterdir()} == FILES
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in metrics] == list(range(8))
    assert metrics[-1]["test_accuracy"] > 0.94
    assert f"held-out accuracy {metrics[-1]['test_accuracy']:.2%}" in done.stdout
    assert Image.open(run / "curves.png").size[0] > 400
    report = (run / "report.md").read_text()
    assert "![training curves](curves.png)" in report
    assert f"{metrics[-1]['test_accuracy']:.2%}" in report
    wrong = round((1 - metrics[-1]["test_accuracy"]) * 450)
    assert f"{wrong} of 450 held-out samples" in report


@pytest.mark.parametrize("stated", [True, False], ids=["as stated", "where nothing is stated"])
def test_the_exported_run_predicts_the_held_out_images_as_the_report_says(
    stated: bool, netspec: Run, tmp_path: Path
) -> None:
    """From the images as files, through the preprocessing in the ONNX file, to the accuracy of the training loop."""
    text = load("lenet5").text
    (tmp_path / "net.yaml").write_text(text if stated else text.partition("deploy:")[0])
    assert netspec("train", "net.yaml", "--out", "run", "--epochs", 4).returncode == 0
    assert netspec("export", "run", "--weights", "run/last.safetensors").returncode == 0
    assert netspec("data", "net.yaml", "--out", "images").returncode == 0
    files = sorted((tmp_path / "images").rglob("*.png"))
    done = netspec("predict", "run/model.onnx", *files, "--format", "json")
    assert done.returncode == 0, done.stderr
    predictions = json.loads(done.stdout)["predictions"]
    right = sum(Path(p["file"]).parent.name == p["label"] for p in predictions)
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert right == round(last["test_accuracy"] * len(files))


def test_killed_at_any_moment_and_resumed_the_weights_are_the_same_to_the_bit(tmp_path: Path) -> None:
    arguments = ("mlp", "--epochs", 12, "--device", "cpu")  # it has dropout, so the random state matters too
    assert start(tmp_path, *arguments, "--out", "whole").wait() == 0
    checkpoint = tmp_path / "killed" / "checkpoint.pt"
    seen: set[int] = set()
    for kill in range(3):
        process = start(tmp_path, *arguments, "--out", "killed", *(["--resume"] if kill else []))
        wait_for(lambda: checkpoint.exists() and checkpoint.stat().st_mtime_ns not in seen)
        time.sleep(0.013 * kill)
        seen.add(checkpoint.stat().st_mtime_ns)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = start(tmp_path, *arguments, "--out", "killed", "--resume")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert "from epoch" in out
    for name in ("last.safetensors", "best.safetensors"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    whole, killed = (
        [json.loads(line) for line in (tmp_path / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("whole", "killed")
    )
    for line in (*whole, *killed):
        del line["seconds"], line["samples_per_second"]
    assert whole == killed


def test_ctrl_c_saves_within_the_epoch_and_resume_goes_on_from_there(tmp_path: Path) -> None:
    arguments = ("mlp", "--epochs", 6, "--set", "train.batch_size=1", "--device", "cpu")
    assert start(tmp_path, *arguments, "--out", "whole").wait() == 0
    process = start(tmp_path, *arguments, "--out", "stopped")
    wait_for(lambda: (tmp_path / "stopped" / "checkpoint.pt").exists())
    time.sleep(0.05)  # into the second epoch
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "Go on with: netspec train mlp --epochs 6 --set train.batch_size=1" in out
    state = torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["state"]
    assert state["step"] > 0
    process = start(tmp_path, *arguments, "--out", "stopped", "--resume")
    assert process.wait() == 0
    weights = [(tmp_path / run / "last.safetensors").read_bytes() for run in ("whole", "stopped")]
    assert weights[0] == weights[1]


def test_a_full_disk_ends_the_run_with_a_message_and_what_was_saved_survives(netspec: Run, tmp_path: Path) -> None:
    assert netspec("train", "mlp", "--out", "run", "--epochs", 1).returncode == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    done = netspec(
        "train", "mlp", "--out", "run", "--epochs", 1, "--resume",
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)),
    )  # fmt: skip
    assert done.returncode == 1
    assert "can't be written: File too large\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert {file.name: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(("limit", "file"), [(50_000, "last.safetensors"), (200_000, "checkpoint.pt")])
def test_a_disk_that_fills_up_is_told_as_the_system_tells_it(limit: int, file: str, netspec: Run) -> None:
    done = netspec(
        "train", "mlp", "--out", "run", "--epochs", 1,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == f"error: `run/{file}` can't be written: File too large\n"


def test_a_run_is_not_overwritten_unasked_and_not_resumed_as_another(netspec: Run, tmp_path: Path) -> None:
    assert netspec("train", "mlp", "--out", "run", "--epochs", 1).returncode == 0
    done = netspec("train", "mlp", "--out", "run", "--epochs", 1)
    assert done.returncode == 1
    assert "go on with --resume, replace it with --overwrite" in done.stderr
    done = netspec("train", "mlp", "--out", "run", "--epochs", 2, "--resume")
    assert done.returncode == 1
    assert "other settings" in done.stderr
    assert netspec("train", "mlp", "--out", "run", "--epochs", 2, "--overwrite").returncode == 0
    (tmp_path / "run" / "checkpoint.pt").write_bytes(b"damaged")
    done = netspec("train", "mlp", "--out", "run", "--epochs", 2, "--resume")
    assert done.returncode == 1
    assert done.stderr.startswith("error: `run/checkpoint.pt` is damaged\n")
    torch.save({"module": {}}, tmp_path / "run" / "checkpoint.pt")
    done = netspec("train", "mlp", "--out", "run", "--epochs", 2, "--resume")
    assert done.returncode == 1
    assert done.stderr.startswith("error: `run/checkpoint.pt` is not a checkpoint of this network and recipe\n")


def test_only_what_is_there_and_not_finished_is_resumed(netspec: Run, tmp_path: Path) -> None:
    arguments = ("train", "mlp", "--epochs", 1, "--resume")
    done = netspec(*arguments, "--out", "run1")
    assert done.returncode == 1
    assert "`run1` holds no run that could go on\n  = help: leave --resume out" in done.stderr
    assert not (tmp_path / "run1").exists()
    assert netspec(*arguments[:-1], "--out", "run1").returncode == 0
    done = netspec(*arguments, "--out", "runl")
    assert done.returncode == 1
    assert "did you mean `run1`?" in done.stderr
    (tmp_path / "run1" / "report.md").unlink()
    done = netspec(*arguments, "--out", "run1")
    assert done.returncode == 0
    assert done.stdout.startswith("the run in run1 is finished: epoch 1 of 1\n")
    assert (tmp_path / "run1" / "report.md").is_file()  # what a late Ctrl-C had kept from being written


def test_the_built_in_images_train_as_a_folder_too(netspec: Run, tmp_path: Path) -> None:
    for split in ("train", "test"):
        assert netspec("data", "mlp", "--out", f"digits/{split}", "--split", split).returncode == 0
    text = load("mlp").text
    (tmp_path / "net.yaml").write_text(text.replace("data: digits", "data: {folder: digits}"))
    assert netspec("train", "net.yaml", "--out", "folder", "--epochs", 2).returncode == 0
    assert netspec("train", "mlp", "--out", "digits-run", "--epochs", 2).returncode == 0
    ours, theirs = (load_file(tmp_path / run / "last.safetensors") for run in ("folder", "digits-run"))
    # The same samples, in another order within the split: the same task, learnt as well.
    accuracies = [
        json.loads((tmp_path / run / "metrics.jsonl").read_text().splitlines()[-1])["test_accuracy"]
        for run in ("folder", "digits-run")
    ]
    assert ours.keys() == theirs.keys()
    assert min(accuracies) > 0.85
    assert json.loads((tmp_path / "folder/run.json").read_text())["labels"] == list("0123456789")


REGRESSION = """
netspec: 1
inputs: {x: {shape: [N, 3]}}
net: {fc: {linear: 1}}
train:
  data: {npz: data.npz}
  loss: mse
  optimizer: {sgd: 0.1}
  epochs: 30
"""


def write_regression(folder: Path, **changes: np.ndarray) -> None:
    x = np.random.default_rng(0).standard_normal((200, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [-2.0], [0.5]], dtype=np.float32) + 3
    np.savez(folder / "data.npz", **({"x": x, "y": y} | changes))
    (folder / "net.yaml").write_text(REGRESSION)


def test_arrays_train_a_regression_to_its_known_answer(netspec: Run, tmp_path: Path) -> None:
    write_regression(tmp_path)
    done = netspec("train", "net.yaml", "--out", "run")
    assert done.returncode == 0, done.stderr
    weights = load_file(tmp_path / "run" / "last.safetensors")
    torch.testing.assert_close(weights["fc.weight"], torch.tensor([[1.0, -2.0, 0.5]]), rtol=0, atol=1e-2)
    torch.testing.assert_close(weights["fc.bias"], torch.tensor([3.0]), rtol=0, atol=1e-2)


NAN = np.ones((200, 3), dtype=np.float32)
NAN[7, 2] = np.nan


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": NAN}, "x[7, 2]"),
        ({"x": np.ones((200, 4), dtype=np.float32)}, "`x` in"),
        ({"y": np.ones((199, 1), dtype=np.float32)}, "199 in `y`"),
        ({"y": np.ones((200, 2), dtype=np.float32)}, "`y` is N × 2, the network gives N × 1"),
        ({"x": np.full((200, 3), "a")}, "not numbers"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    changes: dict[str, np.ndarray], words: str, netspec: Run, tmp_path: Path
) -> None:
    write_regression(tmp_path, **changes)
    done = netspec("train", "net.yaml", "--out", "run")
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_a_file_that_is_no_npz_is_refused(netspec: Run, tmp_path: Path) -> None:
    (tmp_path / "net.yaml").write_text(REGRESSION)
    for content in (b"", b"PK\x03\x04broken", b"text"):
        (tmp_path / "data.npz").write_bytes(content)
        done = netspec("train", "net.yaml", "--out", "run")
        assert done.returncode == 1
        assert "can't be read as a NumPy .npz file" in done.stderr
        assert "Traceback" not in done.stderr


def test_an_image_that_is_no_image_is_named(netspec: Run, tmp_path: Path) -> None:
    assert netspec("data", "mlp", "--out", "digits", "--limit", 60).returncode == 0
    victim = next((tmp_path / "digits" / "3").iterdir())
    victim.write_bytes(b"not an image")
    (tmp_path / "net.yaml").write_text(load("mlp").text.replace("data: digits", "data: {folder: digits}"))
    done = netspec("train", "net.yaml", "--out", "run", "--epochs", 1)
    assert done.returncode == 1
    assert victim.name in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["classes=7"], "the data has 10 classes (0, 1, 2, 3, 4, …), the network gives N × 7"),
        (["classes=7"], "help: `--set classes=10`"),
        (["train.loss=mse"], "images have classes, and `loss: mse` compares values"),
        (["train.optimizer.adamw=1e18"], "the loss is"),
        (["train.optimizer.adamw=-1"], "must be more than 0"),
        (["train.epochz=3"], "did you mean `epochs`?"),
        (["train.data=digit"], "did you mean `digits`?"),
    ],
)
def test_recipes_that_can_not_work_are_refused(settings: list[str], words: str, netspec: Run) -> None:
    options = [part for setting in settings for part in ("--set", setting)]
    done = netspec("train", "mlp", "--out", "run", *options)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_tensorboard_files_are_written_where_asked_for(netspec: Run, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # slow to import

    assert netspec("train", "mlp", "--out", "run", "--epochs", 2, "--tensorboard").returncode == 0
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert {"loss/training", "loss/held_out", "accuracy/held_out", "learning_rate"} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss/held_out")] == [1, 2]


def test_schedules_are_as_their_formulas() -> None:
    recipe = load("resnet").sections["train"]  # cosine from 0.1 to 0 after an epoch of warm-up
    epochs = recipe.numbers.epochs
    assert learning_rate(recipe, 0.0) < 0.002
    assert learning_rate(recipe, 1.0) == pytest.approx(0.1)
    assert learning_rate(recipe, 1 + (epochs - 1) / 2) == pytest.approx(0.05)
    assert learning_rate(recipe, epochs) == pytest.approx(0.0)
    stepped = load("mlp", "train.schedule={step: 2, factor: 0.5}", "train.optimizer={sgd: 0.8}").sections["train"]
    assert [learning_rate(stepped, epoch) for epoch in (0, 1.9, 2, 4)] == pytest.approx([0.8, 0.8, 0.4, 0.2])


def test_losses_are_those_of_the_text_books() -> None:
    recipe = load("mlp", "train.loss=cross_entropy").sections["train"]
    logits, target = torch.tensor([[2.0, 0.0]]), torch.tensor([0])
    assert float(make_loss(recipe.loss)(logits, target)) == pytest.approx(0.126928, abs=1e-6)  # ln(1 + e⁻²)
    l1 = load("mlp", "train.loss=l1").sections["train"].loss
    assert float(make_loss(l1)(torch.tensor([1.0, 4.0]), torch.tensor([2.0, 2.0]))) == 1.5


def test_cuda_where_there_is_none_says_why(netspec: Run) -> None:
    if torch.cuda.is_available():
        pytest.skip("CUDA works here")
    done = netspec("train", "mlp", "--out", "run", "--device", "cuda")
    assert done.returncode == 1
    assert "--device cuda: " in done.stderr
    assert netspec("train", "mlp", "--out", "run", "--amp", "bf16").returncode == 1
    with pytest.raises(CompilerError):
        choose_device("cuda")


@pytest.mark.gpu("torch")
@pytest.mark.parametrize("amp", [[], ["--amp", "bf16"], ["--amp", "fp16"]], ids=["float32", "bf16", "fp16"])
def test_a_gpu_learns_as_well(amp: list[str], netspec: Run, tmp_path: Path) -> None:
    done = netspec("train", "resnet", "--out", "run", "--epochs", 6, "--device", "cuda", *amp)
    assert done.returncode == 0, done.stderr
    last = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert last["test_accuracy"] > 0.9


def test_work_lost_to_a_crash_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Within a long epoch a checkpoint is written now and then, and it is exact."""
    network = load("mlp", "train.epochs=1", "train.batch_size=64")
    recipe = network.sections["train"]
    saved: list[tuple[int, int]] = []
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", 0.0)
    run = training.Run(network, build(network), load_data(network, recipe.data, tmp_path), torch.device("cpu"))

    class Saved(training.Hooks):
        def save(self, run: training.Run) -> None:
            saved.append((run.state.epoch, run.state.step))

    assert training.train(run, Saved())
    assert saved[:3] == [(0, 1), (0, 2), (0, 3)]
    assert saved[-1] == (1, 0)


def test_overwriting_a_run_leaves_other_files_and_waits_until_the_new_one_can_begin(
    netspec: Run, tmp_path: Path
) -> None:
    write_regression(tmp_path)
    assert netspec("train", "net.yaml", "--out", ".", "--epochs", 1).returncode == 0
    before = (tmp_path / "last.safetensors").read_bytes()
    done = netspec("train", "net.yaml", "--out", ".", "--overwrite", "--set", "train.data={npz: typo.npz}")
    assert done.returncode == 1
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert netspec("train", "net.yaml", "--out", ".", "--overwrite", "--epochs", 2).returncode == 0
    assert (tmp_path / "net.yaml").is_file()
    assert (tmp_path / "data.npz").is_file()


def test_a_last_batch_of_one_sample_joins_the_one_before() -> None:
    assert [len(batch) for batch in training.batches_of(torch.arange(65), 32)] == [32, 33]
    assert [len(batch) for batch in training.batches_of(torch.arange(66), 32)] == [32, 32, 2]
    assert [len(batch) for batch in training.batches_of(torch.arange(3), 1)] == [1, 1, 1]


def test_auxiliary_outputs_count_in_the_loss_and_the_first_is_judged(netspec: Run, tmp_path: Path) -> None:
    spec = tmp_path / "two.yaml"
    spec.write_text(
        "netspec: 1\ninputs: {x: {shape: [N, 1, 8, 8]}}\nnet:\n  flat: flatten\n  hidden: {linear: 32}\n  act: relu\n"
        "  early: {linear: 10, from: flat}\n  late: {linear: 10, from: act}\noutputs: [late, early]\n"
        "train: {data: digits, epochs: 3, optimizer: {adamw: 1e-2}, auxiliary: {early: 0.5}}\n"
    )
    done = netspec("train", spec, "--out", "run")
    assert done.returncode == 0, done.stderr
    before = build(load(spec), 0).state_dict()
    after = load_file(tmp_path / "run" / "last.safetensors")
    assert not torch.equal(before["early.weight"], after["early.weight"])
    plain = netspec("train", spec, "--out", "none", "--set", "train.auxiliary={early: 0}")
    assert plain.returncode == 0, plain.stderr
    untouched = load_file(tmp_path / "none" / "last.safetensors")
    assert torch.allclose(before["early.weight"] * (1 - 1e-2 * 0.01) ** 129, untouched["early.weight"], atol=1e-4)
    assert netspec("export", "run", "--verify").returncode == 0
