"""What runs together: rows of equal shape, up to a bound, each request with its own answer whatever its mates do."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from runtime.serving.model import ServedModel
from runtime.serving.options import ModelOptions
from runtime.serving.refused import Reason, Refused
from runtime.serving.repository import open_model
from runtime.serving.request import InferenceRequest, InferenceResult
from runtime.session import Session

SaveModel = Callable[..., Path]


def request(x: Sequence[Any] | np.ndarray, name: str = "x", **other: Any) -> InferenceRequest:
    return InferenceRequest({name: np.asarray(x, np.float32)}, **other)


def served(path: Path, ask: Callable[[ServedModel], Awaitable[Any]], **options: Any) -> tuple[Any, ServedModel]:
    """What `ask` makes of a model while it is served, and the model when it is closed."""

    async def run() -> tuple[Any, ServedModel]:
        model = open_model("model", "1", path, ModelOptions(device="cpu", threads=1, **options))
        model.start()
        try:
            return await asyncio.wait_for(ask(model), 20), model
        finally:
            await model.close()

    return asyncio.run(run())


class Gate:
    """Holds every run of a model until it is opened, and notes the rows of each run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened = threading.Event()
        self.entered = threading.Event()
        self.rows: list[int] = []
        run = Session.run

        def held(session: Session, feeds: dict[str, np.ndarray], outputs: Any = None) -> dict[str, np.ndarray]:
            self.rows.append(len(next(iter(feeds.values()))))
            self.entered.set()
            assert self.opened.wait(10)
            return run(session, feeds, outputs)

        self._patch = lambda: monkeypatch.setattr(Session, "run", held)

    def close(self) -> None:
        """From now on runs are held."""
        self._patch()

    async def has_entered(self) -> None:
        """Waits until a run is held."""
        await asyncio.to_thread(self.entered.wait, 10)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


async def gathered(model: ServedModel, requests: Sequence[InferenceRequest]) -> list[InferenceResult | BaseException]:
    return list(await asyncio.gather(*(model.infer(one) for one in requests), return_exceptions=True))


async def held_behind_the_first(gate: Gate, model: ServedModel, asked: Sequence[InferenceRequest]) -> list[Any]:
    """The answers to requests of which all but the first come while the first one runs."""
    gate.close()
    first = asyncio.create_task(model.infer(asked[0]))
    await gate.has_entered()
    others = asyncio.create_task(gathered(model, asked[1:]))
    await asyncio.sleep(0.05)
    gate.opened.set()
    return [await first, *await others]


def test_answers_are_those_of_onnx_runtime_one_by_one(classifier: Path) -> None:
    generator = np.random.default_rng(0)
    images = [generator.normal(size=(rows, 1, 4, 4)).astype(np.float32) for rows in (1, 2, 3, 1, 5, 1, 1, 4, 9, 1)]
    reference = ort.InferenceSession(classifier, providers=["CPUExecutionProvider"])

    results, model = served(classifier, lambda model: gathered(model, [request(one, "image") for one in images]))

    for image, result in zip(images, results, strict=True):
        np.testing.assert_allclose(result.outputs["fc"], reference.run(None, {"image": image})[0], rtol=1e-5)
    assert model.statistics.inference_count == sum(map(len, images))
    assert model.statistics.success.count == len(images)
    assert sum(rows * batch.compute_infer.count for rows, batch in model.statistics.batches.items()) == 28


def test_batches_count_rows_and_a_larger_request_runs_by_itself(classifier: Path, gate: Gate) -> None:
    sizes = [1, 2, 3, 2, 1, 6, 1]

    async def ask(model: ServedModel) -> list[Any]:
        asked = [request(np.zeros((size, 1, 4, 4)), "image") for size in (1, *sizes)]
        return await held_behind_the_first(gate, model, asked)

    results, _ = served(classifier, ask, max_batch=4)
    # 1 | 1 + 2 (the 3 would make 6) | 3 (2 more would make 5) | 2 + 1 | 6, over the bound, alone | 1
    assert gate.rows == [1, 3, 3, 3, 6, 1]
    assert [len(result.outputs["fc"]) for result in results] == [1, *sizes]


def test_other_shapes_are_never_merged(save_model: SaveModel, gate: Gate) -> None:
    shape = ["n", "width"]
    path = save_model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape)],
    )
    asked = [request([[float(i)] * (2 + i % 2)]) for i in range(8)]

    async def ask(model: ServedModel) -> list[Any]:
        return await held_behind_the_first(gate, model, asked)

    results, model = served(path, ask)
    assert [result.outputs["y"].tolist() for result in results] == [one.feeds["x"].tolist() for one in asked]
    # the first alone, then the group of the second, which waited longest, then the rest of the first's width
    assert model.statistics.execution_count == 3
    assert gate.rows == [1, 4, 3]


def test_a_quick_request_has_the_event_loop_run_nothing_slow(
    save_model: SaveModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = ["n", "width"]
    path = save_model(
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, shape)],
        [("y", TensorProto.FLOAT, shape)],
    )
    run = Session.run

    def slow_if_wide(session: Session, feeds: dict[str, np.ndarray], outputs: Any = None) -> dict[str, np.ndarray]:
        time.sleep(0.4 if feeds["x"].shape[1] > 2 else 0)
        return run(session, feeds, outputs)

    async def ask(model: ServedModel) -> float:
        narrow, wide = request([[1.0] * 2]), request([[1.0] * 9])
        for _ in range(50):
            await model.infer(narrow)
        asked = []
        for one in (wide, wide, narrow):  # the second waits while the first runs, and the third is quick
            asked.append(asyncio.create_task(model.infer(one)))
            began = time.perf_counter()
            await asyncio.sleep(0.05)
        seconds = time.perf_counter() - began
        await asyncio.gather(*asked)
        return seconds

    monkeypatch.setattr(Session, "run", slow_if_wide)
    seconds, model = served(path, ask)
    assert seconds < 0.3
    assert model.statistics.success.count == 53


def test_a_batch_waits_for_more_until_its_delay_is_over_or_it_is_full(classifier: Path) -> None:
    image = request(np.zeros((1, 1, 4, 4)), "image")

    async def ask(model: ServedModel) -> tuple[float, float]:
        start = time.perf_counter()
        await model.infer(image)
        alone = time.perf_counter() - start
        start = time.perf_counter()
        await gathered(model, [image] * 4)
        return alone, time.perf_counter() - start

    (alone, full), model = served(classifier, ask, max_batch=4, max_delay=0.3)
    assert 0.3 <= alone < 2
    assert full < 0.25
    assert sorted(model.statistics.batches) == [1, 4]


def test_a_preferred_size_is_not_kept_waiting(classifier: Path) -> None:
    image = request(np.zeros((1, 1, 4, 4)), "image")

    async def ask(model: ServedModel) -> float:
        start = time.perf_counter()
        await gathered(model, [image] * 2)
        return time.perf_counter() - start

    seconds, model = served(classifier, ask, max_batch=8, max_delay=5.0, preferred_batches=(2, 4))
    assert seconds < 1
    assert sorted(model.statistics.batches) == [2]


def test_a_failing_request_does_not_hurt_its_mates(picker: Path, gate: Gate) -> None:
    asked = [InferenceRequest({"index": np.array([index])}) for index in (0, 1, 7, 2)]

    async def ask(model: ServedModel) -> list[Any]:
        return await held_behind_the_first(gate, model, asked)

    (zero, one, seven, two), model = served(picker, ask)
    assert gate.rows == [1, 3, 1, 1, 1]
    assert [result.outputs["row"].tolist() for result in (zero, one, two)] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert isinstance(seven, Refused)
    assert seven.reason is Reason.INVALID
    assert "7" in seven.message
    assert model.statistics.failures == {Reason.INVALID: 1}
    assert (model.statistics.success.count, model.statistics.fail.count) == (3, 1)


def test_each_gets_the_outputs_that_it_asked_for(adder: Path, gate: Gate) -> None:
    def asked(value: float, *outputs: str) -> InferenceRequest:
        rows = np.full((1, 2), value, np.float32)
        return InferenceRequest({"a": rows, "b": rows + 1}, outputs)

    async def ask(model: ServedModel) -> list[Any]:
        requests = [asked(0), asked(1, "double"), asked(2, "sum"), asked(3), asked(4, "double", "sum")]
        return (await held_behind_the_first(gate, model, requests))[1:]

    results, _ = served(adder, ask)
    assert gate.rows == [1, 4]
    assert [list(result.outputs) for result in results] == [["double"], ["sum"], ["sum", "double"], ["double", "sum"]]
    assert [next(iter(result.outputs.values())).tolist() for result in results] == [
        [[2, 2]],
        [[5, 5]],
        [[7, 7]],
        [[8, 8]],
    ]


def test_a_full_queue_refuses_at_once_and_says_when_to_come_back(classifier: Path, gate: Gate) -> None:
    image = request(np.zeros((1, 1, 4, 4)), "image")

    async def ask(model: ServedModel) -> list[Any]:
        gate.close()
        first = asyncio.create_task(model.infer(image))
        await gate.has_entered()
        waiting = asyncio.create_task(gathered(model, [image] * 3))
        await asyncio.sleep(0)
        with pytest.raises(Refused) as refused:
            await asyncio.wait_for(model.infer(image), 0.2)
        assert model.is_full
        gate.opened.set()
        await first
        assert all(isinstance(answer, InferenceResult) for answer in await waiting)
        await model.infer(image)
        return [refused.value]

    (refusal,), model = served(classifier, ask, max_queue=3, max_batch=1)
    assert refusal.reason is Reason.OVERLOADED
    assert refusal.retry_after is not None and refusal.retry_after >= 1
    assert "3 requests wait" in refusal.message
    assert model.statistics.failures == {Reason.OVERLOADED: 1}


@pytest.mark.parametrize("options", [{}, {"timeout": 0.1}])
def test_a_request_that_waits_too_long_is_told_so_and_never_runs(
    classifier: Path, gate: Gate, options: dict[str, float]
) -> None:
    image = np.zeros((1, 1, 4, 4))

    async def ask(model: ServedModel) -> tuple[BaseException, float]:
        gate.close()
        first = asyncio.create_task(model.infer(request(image, "image", timeout=9)))
        await gate.has_entered()
        start = time.perf_counter()
        with pytest.raises(Refused) as refused:
            await model.infer(request(image, "image", timeout=None if options else 0.1))
        seconds = time.perf_counter() - start
        gate.opened.set()
        await first
        return refused.value, seconds

    (refusal, seconds), _ = served(classifier, ask, **options)
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.TIMEOUT
    assert "0.1 s" in refusal.message
    assert 0.1 <= seconds < 1
    assert gate.rows == [1]


@pytest.mark.parametrize("options", [{}, {"timeout": 1e-6}])
def test_a_request_that_runs_at_once_has_not_waited(classifier: Path, options: dict[str, float]) -> None:
    async def ask(model: ServedModel) -> list[InferenceResult]:
        sizes = [1, 2, 3, 1] * 10  # an instance takes what is of another size than the last, and the event loop others
        timeout = None if options else 1e-6
        return [await model.infer(request(np.zeros((rows, 1, 4, 4)), "image", timeout=timeout)) for rows in sizes]

    answers, _ = served(classifier, ask, **options)
    assert len(answers) == 40


def test_an_abandoned_request_never_runs_and_frees_its_place(classifier: Path, gate: Gate) -> None:
    image = request(np.zeros((1, 1, 4, 4)), "image")

    async def ask(model: ServedModel) -> int:
        gate.close()
        first = asyncio.create_task(model.infer(image))
        await gate.has_entered()
        gone = [asyncio.create_task(model.infer(image)) for _ in range(2)]
        await asyncio.sleep(0)
        waited = model.queue_depth
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        assert model.queue_depth == 0
        gate.opened.set()
        await first
        return waited

    waited, model = served(classifier, ask, max_queue=2)
    assert waited == 2
    assert gate.rows == [1]
    assert model.statistics.abandoned == 2
    assert model.statistics.in_flight == 0


def test_instances_run_at_the_same_time(classifier: Path, gate: Gate) -> None:
    image = request(np.zeros((1, 1, 4, 4)), "image")

    async def ask(model: ServedModel) -> int:
        gate.close()
        tasks = [asyncio.create_task(model.infer(image)) for _ in range(3)]
        for _ in range(100):
            await asyncio.sleep(0.01)
            if len(gate.rows) == 3:
                break
        running = len(gate.rows)
        gate.opened.set()
        await asyncio.gather(*tasks)
        return running

    running, _ = served(classifier, ask, instances=3, max_batch=1)
    assert running == 3


def test_closing_answers_what_came_and_refuses_what_comes(classifier: Path, gate: Gate) -> None:
    image = request(np.zeros((1, 1, 4, 4)), "image")

    async def ask(model: ServedModel) -> tuple[list[Any], BaseException]:
        gate.close()
        with model:
            tasks = asyncio.create_task(gathered(model, [image] * 3))
            await gate.has_entered()
            closing = asyncio.create_task(model.close())
            await asyncio.sleep(0.05)
            late = asyncio.create_task(model.infer(image))  # whoever holds the model may still ask
            await asyncio.sleep(0.05)
            assert not closing.done()
            gate.opened.set()
            answers = [*await tasks, await late]
        await closing
        with pytest.raises(Refused) as refused:
            await model.infer(image)
        return answers, refused.value

    (answers, refusal), _ = served(classifier, ask)
    assert all(isinstance(answer, InferenceResult) for answer in answers)
    assert isinstance(refusal, Refused)
    assert refusal.reason is Reason.UNAVAILABLE
    assert "unloaded" in refusal.message


def test_a_fixed_batch_is_never_merged(save_classifier: SaveModel) -> None:
    path = save_classifier(batch=2)
    images = request(np.zeros((2, 1, 4, 4)), "image")
    results, model = served(path, lambda model: gathered(model, [images] * 5))
    assert model.max_batch == 0
    assert model.statistics.execution_count == 5
    assert all(len(result.outputs["fc"]) == 2 for result in results)


MIXING = {
    "the rows' mean is taken off": [
        helper.make_node("ReduceMean", ["x", "zero"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ],
    "the rows are summed": [helper.make_node("ReduceSum", ["x", "zero"], ["y"], keepdims=1)],
    "the rows are turned around": [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Slice", ["x", "last", "before_first", "zero", "last"], ["y"]),
    ],
}


@pytest.mark.parametrize("how", MIXING)
def test_rows_that_are_not_independent_are_never_merged(save_model: SaveModel, how: str) -> None:
    weights = {"zero": np.array([0]), "last": np.array([-1]), "before_first": np.array([-(2**31)])}
    path = save_model(MIXING[how], [("x", TensorProto.FLOAT, ["n", 2])], [("y", TensorProto.FLOAT, ["n", 2])], weights)
    reference = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    asked = [request([[float(i), 1.0]]) for i in range(6)]
    results, model = served(path, lambda model: gathered(model, asked))
    assert model.max_batch == 0
    for one, result in zip(asked, results, strict=True):
        np.testing.assert_array_equal(result.outputs["y"], reference.run(None, dict(one.feeds))[0])


def test_two_dimensions_of_the_batch_are_never_merged(save_model: SaveModel) -> None:
    nodes = [helper.make_node("Transpose", ["x"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    path = save_model(nodes, [("x", TensorProto.FLOAT, ["n", 2])], [("y", TensorProto.FLOAT, ["n", "n"])])
    _, model = served(path, lambda model: gathered(model, [request([[1.0, 2.0]])] * 3))
    assert model.max_batch == 0


def test_dimensions_of_other_names_are_merged_where_the_rows_are_shown_to_be_independent(save_model: SaveModel) -> None:
    path = save_model(
        [helper.make_node("Relu", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, ["in", 2])],
        [("y", TensorProto.FLOAT, ["out", 2])],
    )
    asked = [request([[float(i), -1.0]]) for i in range(6)]
    results, model = served(path, lambda model: gathered(model, asked))
    assert model.max_batch == 8
    assert [result.outputs["y"].tolist() for result in results] == [[[float(i), 0.0]] for i in range(6)]


@pytest.mark.parametrize("is_slow", [False, True])
def test_quick_runs_are_done_on_the_event_loop_and_slow_ones_beside_it(
    classifier: Path, monkeypatch: pytest.MonkeyPatch, is_slow: bool
) -> None:
    runs: list[tuple[bool, int]] = []
    run = Session.run

    def noted(session: Session, feeds: dict[str, np.ndarray], outputs: Any = None) -> dict[str, np.ndarray]:
        runs.append((threading.current_thread() is threading.main_thread(), len(feeds["image"])))
        time.sleep(0.002 * is_slow)
        return run(session, feeds, outputs)

    async def ask(model: ServedModel) -> list[Any]:
        monkeypatch.setattr(Session, "run", noted)
        image = request(np.zeros((1, 1, 4, 4)), "image")
        for _ in range(10):
            await model.infer(image)
        return await gathered(model, [image] * 5)

    results, _ = served(classifier, ask)
    assert [len(result.outputs["fc"]) for result in results] == [1] * 5
    if is_slow:
        assert not any(on_loop for on_loop, _ in runs)
    else:
        assert runs[-1] == (True, 5)  # what comes in one turn of the loop is a batch
