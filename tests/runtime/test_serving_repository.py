"""Versions of models that come, go and are replaced while they are being asked."""

import asyncio
import shutil
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from runtime.errors import ModelError
from runtime.serving.ahead import Ahead
from runtime.serving.options import ModelOptions, VersionPolicy, Warmup, WarmupInput
from runtime.serving.refused import Reason, Refused
from runtime.serving.repository import Entry, ReadOverride, Repository, open_model
from runtime.serving.request import InferenceRequest
from runtime.serving.sources import Files, Folder, Source, is_name
from runtime.session import Session

SaveModel = Callable[..., Path]
CPU = ModelOptions(device="cpu", threads=1)
ONE = InferenceRequest({"x": np.ones((1, 2), np.float32)})


@pytest.fixture
def scale(save_model: SaveModel, tmp_path: Path) -> Callable[..., Path]:
    """Saves x · factor, x [n, 2], as a version of a model in the repository."""

    def save(factor: float, version: str | int = 1, name: str = "scale") -> Path:
        target = tmp_path / "repository" / name / str(version) / "model.onnx"
        made = save_model(
            [helper.make_node("Mul", ["x", "factor"], ["y"])],
            [("x", TensorProto.FLOAT, ["n", 2])],
            [("y", TensorProto.FLOAT, ["n", 2])],
            {"factor": np.float32(factor)},
            name="made.onnx",
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.move(made, target))

    return save


def folder(tmp_path: Path, **options: Any) -> Folder:
    return Folder(tmp_path / "repository", ModelOptions(device="cpu", threads=1, **options), lambda path, given: given)


def running(
    source: Source,
    ask: Callable[[Repository], Awaitable[Any]],
    read_override: ReadOverride = lambda name, text, given: given,
    open_session: Callable[..., Session] = Session,
) -> Any:
    """What `ask` makes of a repository that has started."""

    async def run() -> Any:
        repository = Repository(source, read_override, open_session)
        await repository.start()
        try:
            return await asyncio.wait_for(ask(repository), 30)
        finally:
            await repository.close()

    return asyncio.run(run())


async def answer(repository: Repository, name: str = "scale", version: str = "") -> float:
    with repository.model(name, version) as model:
        return float((await model.infer(ONE)).outputs["y"][0, 0])


async def polled(repository: Repository, until: Callable[[], bool]) -> None:
    task = asyncio.create_task(repository.poll(0.02))
    for _ in range(200):
        await asyncio.sleep(0.02)
        if until():
            break
    task.cancel()
    assert until()


def refusal(call: Callable[[], object]) -> Refused:
    with pytest.raises(Refused) as refused:
        call()
    return refused.value


def test_the_newest_version_serves_unless_others_are_asked_for(scale: Callable[..., Path], tmp_path: Path) -> None:
    for version in (1, 2, 10):
        scale(version, version)

    async def ask(repository: Repository) -> list[float]:
        return [await answer(repository), *[await answer(repository, version=v) for v in repository.versions("scale")]]

    assert running(folder(tmp_path), ask) == [10, 10]
    assert running(folder(tmp_path, versions=VersionPolicy(latest=2)), ask) == [10, 2, 10]
    assert running(folder(tmp_path, versions=VersionPolicy(latest=None)), ask) == [10, 1, 2, 10]
    assert running(folder(tmp_path, versions=VersionPolicy(specific=("1", "2"))), ask) == [2, 1, 2]


def test_what_is_no_model_or_version_is_told(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(1)
    (tmp_path / "repository" / "empty").mkdir()
    (tmp_path / "repository" / "scale" / "notes").mkdir()
    (tmp_path / "repository" / "README").write_text("no model")

    async def ask(repository: Repository) -> list[Refused]:
        assert repository.names() == ["empty", "scale"]
        return [
            refusal(lambda: repository.model("x")),
            refusal(lambda: repository.model("scale", "2")),
            refusal(lambda: repository.model("empty")),
        ]

    unknown, version, empty = running(folder(tmp_path), ask)
    assert (unknown.reason, version.reason, empty.reason) == (
        Reason.NOT_FOUND,
        Reason.NOT_FOUND,
        Reason.UNAVAILABLE,
    )
    assert unknown.message == "there is no model 'x' here; there is 'empty', 'scale'"
    assert version.message == "the model 'scale' has no version '2'; it has 1"
    assert "has no version of a model" in empty.message


def test_a_broken_model_does_not_keep_the_others_from_serving(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(3)
    scale(1, name="broken").write_bytes(b"not a model")

    async def ask(repository: Repository) -> tuple[list[Entry], float]:
        return repository.index(), await answer(repository)

    index, value = running(folder(tmp_path), ask)
    assert value == 3
    assert [(entry.name, entry.state) for entry in index] == [("broken", "UNAVAILABLE"), ("scale", "READY")]
    assert "is not an ONNX file" in index[0].reason


def test_polling_finds_what_is_new_changed_and_gone(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(1)

    async def ask(repository: Repository) -> list[float]:
        seen = [await answer(repository)]
        scale(2, 2)
        await polled(repository, lambda: repository.versions("scale") == ["2"])
        seen.append(await answer(repository))
        first = repository.model("scale")
        scale(5, 2)
        await polled(repository, lambda: repository.model("scale") is not first)
        seen.append(await answer(repository))
        scale(7, name="other")
        await polled(repository, lambda: "other" in repository.names() and repository.versions("other") == ["1"])
        seen.append(await answer(repository, "other"))
        shutil.rmtree(tmp_path / "repository" / "scale")
        await polled(repository, lambda: repository.names() == ["other"])
        return seen

    assert running(folder(tmp_path), ask) == [1, 2, 5, 7]


def test_a_broken_new_version_leaves_the_old_one_serving(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(1)

    async def ask(repository: Repository) -> tuple[float, list[Entry], float]:
        scale(2, 2).write_bytes(b"half a mod")
        await polled(repository, lambda: any(entry.reason for entry in repository.index()))
        broken = await answer(repository)
        index = repository.index()
        scale(2, 2)
        await polled(repository, lambda: repository.versions("scale") == ["2"])
        return broken, index, await answer(repository)

    broken, index, mended = running(folder(tmp_path), ask)
    assert (broken, mended) == (1, 2)
    assert [(entry.version, entry.state) for entry in index] == [("1", "READY"), ("2", "UNAVAILABLE")]


def test_a_version_that_breaks_in_place_goes_on_with_what_was_loaded(
    scale: Callable[..., Path], tmp_path: Path
) -> None:
    file = scale(4)

    async def ask(repository: Repository) -> tuple[float, Refused, list[Entry]]:
        file.write_bytes(b"")
        with pytest.raises(Refused) as refused:
            await repository.load("scale")
        return await answer(repository), refused.value, repository.index()

    value, refused, index = running(folder(tmp_path), ask)
    assert value == 4
    assert refused.reason is Reason.INVALID
    assert "is empty" in refused.message
    assert [(entry.state, "is empty" in entry.reason) for entry in index] == [("READY", True)]


def test_swaps_under_load_lose_no_request(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(1)

    async def ask(repository: Repository) -> tuple[set[float], int]:
        seen: list[float] = []
        done = False

        async def client() -> None:
            while not done:
                seen.append(await answer(repository))

        clients = [asyncio.create_task(client()) for _ in range(8)]
        for factor in range(2, 12):
            scale(factor)
            await repository.load("scale")
        done = True
        await asyncio.gather(*clients)
        return set(seen), len(seen)

    values, count = running(folder(tmp_path), ask)
    assert count > 100
    assert values <= set(range(1, 12))
    assert len(values) >= 5


def test_a_new_model_that_is_loaded_twice_at_once_is_there_once(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(1, name="other")

    async def ask(repository: Repository) -> list[str]:
        scale(3)
        await asyncio.gather(repository.load("scale"), repository.load("scale"))
        assert await answer(repository) == 3
        await repository.unload("scale")
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("scale-")]

    assert running(folder(tmp_path), ask) == []


def test_a_change_whose_asker_gives_up_is_made_to_its_end(
    scale: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scale(1)
    run = Session.run

    def slow(session: Session, feeds: dict[str, np.ndarray], outputs: Any = None) -> dict[str, np.ndarray]:
        time.sleep(0.3)
        return run(session, feeds, outputs)

    async def settled(repository: Repository, state: str) -> None:
        while [entry.state for entry in repository.index()] != [state]:
            await asyncio.sleep(0.02)

    async def ask(repository: Repository) -> list[str]:
        monkeypatch.setattr(Session, "run", slow)
        asked = asyncio.create_task(answer(repository))
        await asyncio.sleep(0.05)
        for change, state in ((repository.unload, "UNAVAILABLE"), (repository.load, "READY")):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(change("scale"), 0.05)
            await settled(repository, state)
        assert await asked == await answer(repository) == 1
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("scale-")]

    assert running(folder(tmp_path), ask) == ["scale-1-0"]


def test_a_configuration_that_was_refused_does_not_stay(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(1)

    def override(name: str, text: str, given: ModelOptions) -> ModelOptions:
        return replace(given, labels={"z": ("a",)})  # for an output that the model hasn't

    async def ask(repository: Repository) -> float:
        with pytest.raises(Refused, match="labels for 'z'"):
            await repository.load("scale", "{}")
        scale(2, 2)
        await polled(repository, lambda: repository.versions("scale") == ["2"])
        return await answer(repository)

    assert running(folder(tmp_path), ask, override) == 2


def test_unloaded_models_stay_so_until_they_are_loaded_again(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(6)

    async def ask(repository: Repository) -> tuple[Refused, list[Entry], float]:
        await repository.unload("scale")
        task = asyncio.create_task(repository.poll(0.02))
        await asyncio.sleep(0.1)
        task.cancel()
        refused, index = refusal(lambda: repository.model("scale")), repository.index()
        await repository.load("scale")
        return refused, index, await answer(repository)

    refused, index, value = running(folder(tmp_path), ask)
    assert refused.reason is Reason.UNAVAILABLE
    assert "unloaded" in refused.message
    assert index == [Entry("scale", "1", "UNAVAILABLE", "unloaded")]
    assert value == 6


@pytest.mark.parametrize("name", ["../scale", "..", ".hidden", "a/b", "a\\b", "", "/etc", "nul\0", "c:"])
def test_no_name_leads_out_of_the_repository(scale: Callable[..., Path], tmp_path: Path, name: str) -> None:
    scale(1)
    outside = tmp_path / "scale"
    shutil.copytree(tmp_path / "repository" / "scale", outside)

    async def ask(repository: Repository) -> Refused:
        with pytest.raises(Refused) as refused:
            await repository.load(name)
        return refused.value

    assert running(folder(tmp_path), ask).reason is Reason.NOT_FOUND
    assert not is_name(name)


def test_a_version_beyond_the_protocols_numbers_is_told(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(1, 2**63)
    scale(2, 2**63 - 1, name="greatest")
    index = running(folder(tmp_path), lambda repository: asyncio.sleep(0, repository.index()))
    assert [(entry.name, entry.version) for entry in index] == [("greatest", str(2**63 - 1)), ("scale", "")]
    assert f"scale/{2**63} is no version: the greatest number of one is {2**63 - 1}" in index[1].reason


def test_files_are_models_of_version_1(classifier: Path) -> None:
    async def ask(repository: Repository) -> list[Entry]:
        await repository.load("digits")
        with pytest.raises(Refused):
            await repository.load("other")
        return repository.index()

    assert running(Files({"digits": classifier}, CPU), ask) == [Entry("digits", "1", "READY", "")]


def test_a_draining_repository_answers_what_came_and_nothing_else(scale: Callable[..., Path], tmp_path: Path) -> None:
    scale(2)

    async def ask(repository: Repository) -> tuple[float, Refused]:
        asked = asyncio.create_task(answer(repository))
        await asyncio.sleep(0)
        assert repository.ready()
        await repository.close()
        assert not repository.ready()
        return await asked, refusal(lambda: repository.model("scale"))

    value, refused = running(folder(tmp_path), ask)
    assert value == 2
    assert refused.reason is Reason.UNAVAILABLE
    assert "stopping" in refused.message


@pytest.mark.parametrize("source", ["zero", "random", "file"])
def test_a_warm_up_runs_before_the_model_is_ready(
    scale: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    file = tmp_path / "row.bin"
    np.array([1, 2], "<f4").tofile(file)
    seen: list[np.ndarray] = []
    run = Session.run

    def noted(session: Session, feeds: dict[str, np.ndarray], outputs: Any = None) -> dict[str, np.ndarray]:
        seen.append(feeds["x"])
        return run(session, feeds, outputs)

    path = scale(2)
    monkeypatch.setattr("runtime.serving.repository.rows_are_independent", lambda session: True)
    monkeypatch.setattr(Session, "run", noted)
    warmup = Warmup("first", {"x": WarmupInput((2,), file if source == "file" else source)}, batch=3, count=2)
    model = open_model("scale", "1", path, ModelOptions(device="cpu", warmup=(warmup,)))
    assert [rows.shape for rows in seen] == [(3, 2), (3, 2)]
    if source == "file":
        assert seen[0].tolist() == [[1, 2]] * 3
    else:
        assert bool(seen[0].any()) == (source == "random")
    assert model.statistics.execution_count == 0


def test_without_a_configured_warm_up_it_runs_once_on_zeros(classifier: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shapes: list[tuple[int, ...]] = []
    run = Session.run

    def noted(session: Session, feeds: dict[str, np.ndarray], outputs: Any = None) -> dict[str, np.ndarray]:
        shapes.append(feeds["image"].shape)
        return run(session, feeds, outputs)

    monkeypatch.setattr(Session, "run", noted)
    open_model("classifier", "1", classifier, CPU)
    assert shapes == [(1, 1, 4, 4)]


@pytest.mark.parametrize(
    ("warmup", "message"),
    [
        (Warmup("long", {"x": WarmupInput((2,))}, count=4_000_000_000), "'long' has 4000000000 runs, more than 1000"),
        (Warmup("large", {"x": WarmupInput((2,))}, batch=4_000_000_000), "'large' gives 'x' 32,000,000,000 bytes"),
    ],
)
def test_a_warm_up_without_measure_is_refused(scale: Callable[..., Path], warmup: Warmup, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_model("scale", "1", scale(1), ModelOptions(device="cpu", warmup=(warmup,)))


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "there isn't enough memory for it"),
        (PermissionError(13, "Permission denied", "weights"), "cannot read weights: Permission denied"),
        (RuntimeError("a mistake of ours"), "internal error"),
    ],
)
def test_no_model_takes_the_server_with_it(
    scale: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    scale(3)
    scale(4, name="unlucky")

    def fails(session: Session) -> bool:
        if "unlucky" in str(session.path):
            raise error
        return True

    monkeypatch.setattr("runtime.serving.repository.rows_are_independent", fails)

    async def ask(repository: Repository) -> tuple[float, list[Entry]]:
        return await answer(repository), repository.index()

    value, index = running(folder(tmp_path), ask)
    assert value == 3
    assert [(entry.name, entry.state) for entry in index] == [("scale", "READY"), ("unlucky", "UNAVAILABLE")]
    assert reason in index[1].reason


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "says nothing of the input 'x'"),
        ({"x": WarmupInput((3,))}, r"gives 'x' as \[1, 3\], but it is float32 \[n, 2\]"),
        ({"x": WarmupInput((2,), Path("missing.bin"))}, "can't read missing.bin: No such file"),
    ],
)
def test_a_warm_up_that_cannot_run_is_told(
    scale: Callable[..., Path], given: dict[str, WarmupInput], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        open_model("scale", "1", scale(1), ModelOptions(device="cpu", warmup=(Warmup("first", given),)))


def test_a_model_that_fails_on_its_warm_up_is_not_ready(save_model: SaveModel) -> None:
    path = save_model(
        [helper.make_node("Reshape", ["x", "sizes"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("y", TensorProto.FLOAT, [3, 5])],
        {"sizes": np.array([3, 5])},
    )
    with pytest.raises(ModelError, match="the warm-up on zeros failed"):
        open_model("broken", "1", path, CPU)


def test_a_model_that_zeros_are_no_good_to_is_served_all_the_same(
    save_model: SaveModel, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_model(
        [helper.make_node("Reshape", ["x", "sizes"], ["y"], allowzero=1)],
        [("x", TensorProto.FLOAT, ["n", 3]), ("sizes", TensorProto.INT64, [2])],
        [("y", TensorProto.FLOAT, ["a", "b"])],
    )
    model = open_model("reshape", "1", path, CPU)
    assert model.max_batch == 0
    assert "the warm-up on zeros failed" in caplog.text


def test_sessions_begun_ahead_are_those_that_serve(scale: Callable[..., Path], tmp_path: Path) -> None:
    path = scale(2)
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    ahead = Ahead([path, tmp_path / "broken.onnx"], CPU)
    first = ahead.open(path, CPU)
    path.unlink()  # whoever comes later has to do without
    assert first.run({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[2, 2]]
    with pytest.raises(ModelError, match="there is no"):
        ahead.open(path, CPU)
    with pytest.raises(ModelError, match="is not an ONNX file"):
        ahead.open(tmp_path / "broken.onnx", CPU)


def test_other_options_than_those_begun_with_load_anew(scale: Callable[..., Path]) -> None:
    path = scale(2)
    ahead = Ahead([path], CPU)
    assert ahead.open(path, ModelOptions(device="cpu", threads=2)) is not ahead.open(path, CPU)


def test_a_configuration_that_insists_on_batching_is_held_against_the_model(save_classifier: SaveModel) -> None:
    options = ModelOptions(device="cpu", max_batch=4, insist_on_batching=True)
    with pytest.raises(ModelError, match="batch is fixed"):
        open_model("fixed", "1", save_classifier(batch=2), options)


def test_a_model_that_was_replaced_keeps_no_weights_for_whoever_names_it(
    scale: Callable[..., Path], tmp_path: Path
) -> None:
    scale(2)
    opened: list[weakref.ref[Session]] = []

    def open_session(path: Path, options: Any) -> Session:
        session = Session(path, options)
        opened.append(weakref.ref(session))
        return session

    async def ask(repository: Repository) -> None:
        named = repository.model("scale")
        await repository.load("scale")
        assert [session() is None for session in opened] == [True, False]
        with pytest.raises(Refused) as refused:
            await named.infer(ONE)
        assert refused.value.reason is Reason.UNAVAILABLE

    running(folder(tmp_path), ask, open_session=open_session)
