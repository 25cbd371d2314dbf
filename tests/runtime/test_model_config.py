"""What a model's configuration asks for is done or refused; what a client is told of it is what is done."""

import asyncio
import json
import os
import re
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format, text_format
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from runtime.errors import ModelError
from runtime.protocol.config_fields import HONOURED
from runtime.protocol.config_reply import as_json, config_of
from runtime.protocol.model_config import read_config, read_override
from runtime.serving.options import ModelOptions, VersionPolicy, Warmup, WarmupInput
from runtime.serving.refused import Refused
from runtime.serving.repository import Repository
from runtime.serving.sources import Files, Folder
from tests.runtime.conftest import SaveModel

CPU = ModelOptions(device="cpu", threads=1)

TENSORRT = "optimization {{ execution_accelerators {{ gpu_execution_accelerator {{ {} }} }} }}"

# As people write them for the classifier of the fixtures: image [batch, 1, 4, 4] → fc [batch, 3].
CLASSIFIER = """
name: "digits"
platform: "onnxruntime_onnx"
max_batch_size: 4
input [ { name: "image" data_type: TYPE_FP32 dims: [1, 4, 4] } ]
output [ { name: "fc" data_type: TYPE_FP32 dims: [3] label_filename: "names.txt" } ]
dynamic_batching {
  preferred_batch_size: [2, 4]
  max_queue_delay_microseconds: 500
  default_queue_policy { default_timeout_microseconds: 2000000 max_queue_size: 32 }
}
instance_group [ { count: 2 kind: KIND_CPU } ]
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
version_policy: { specific { versions: [1] } }
model_warmup [ {
  name: "both rows"
  batch_size: 2
  inputs { key: "image" value: { data_type: TYPE_FP32 dims: [1, 4, 4] random_data: true } }
} ]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "repository" / "digits"
    (made / "1").mkdir(parents=True)
    return made


@pytest.fixture
def read(folder: Path) -> Callable[[str], ModelOptions]:
    """Reads text as the model's config.pbtxt."""

    def read(text: str) -> ModelOptions:
        (folder / "config.pbtxt").write_text(text)
        return read_config(folder / "config.pbtxt", CPU)

    return read


def test_everything_that_is_asked_for(folder: Path, read: Callable[[str], ModelOptions]) -> None:
    (folder / "names.txt").write_text("zero\none\ntwo\n")
    options = read(CLASSIFIER)
    assert (options.max_batch, options.preferred_batches, options.insist_on_batching) == (4, (2, 4), True)
    assert (options.max_delay, options.timeout, options.max_queue) == (0.0005, 2.0, 32)
    assert (options.instances, options.device, options.threads) == (2, "cpu", 1)
    assert options.versions == VersionPolicy(latest=None, specific=("1",))
    assert options.warmup == (Warmup("both rows", {"image": WarmupInput((1, 4, 4), "random")}, batch=2),)
    assert options.labels == {"fc": ("zero", "one", "two")}


def test_a_configuration_that_says_nothing_changes_nothing(read: Callable[[str], ModelOptions]) -> None:
    assert read("") == CPU
    assert read('name: "digits" backend: "onnxruntime"') == CPU


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_batch_size: 16", {"max_batch": 16}),
        ('input { name: "x" data_type: TYPE_FP32 dims: 2 }', {"max_batch": 1}),
        ("instance_group { kind: KIND_GPU }", {"device": "cuda", "instances": 1}),
        ("instance_group [ { count: 2 }, { count: 3 } ]", {"device": "cpu", "instances": 5}),
        ("instance_group { gpus: 1 }", {"device": "cuda", "device_id": 1}),
        ("instance_group { kind: KIND_GPU } optimization { cuda { graphs: true } }", {"cuda_graph": True}),
        (TENSORRT.format('name: "tensorrt"'), {"device": "tensorrt", "fp16": False}),
        (
            TENSORRT.format('name: "tensorrt" parameters { key: "precision_mode" value: "FP16" }'),
            {"device": "tensorrt", "fp16": True},
        ),
        ("version_policy { all { } }", {"versions": VersionPolicy(latest=None)}),
        ("version_policy { latest { num_versions: 3 } }", {"versions": VersionPolicy(latest=3)}),
        ('default_model_filename: "net.onnx"', {"file": "net.onnx"}),
        ('parameters { key: "intra_op_thread_count" value { string_value: "3" } }', {"threads": 3}),
    ],
)
def test_single_fields(read: Callable[[str], ModelOptions], text: str, expected: dict[str, Any]) -> None:
    options = read(text)
    assert {key: getattr(options, key) for key in expected} == expected


@pytest.mark.parametrize(
    ("text", "device", "taken_back"),
    [
        ("instance_group { kind: KIND_CPU }", "cpu", {"gpu_memory": None, "device_id": None, "cuda_graph": False}),
        (TENSORRT.format('name: "tensorrt"'), "tensorrt", {"gpu_memory": None, "device_id": 1, "cuda_graph": True}),
        ("", "cuda", {"gpu_memory": 2**30, "device_id": 1, "cuda_graph": True}),
    ],
)
def test_what_the_server_is_told_of_devices_holds_where_it_has_a_meaning(
    folder: Path, text: str, device: str, taken_back: dict[str, Any]
) -> None:
    (folder / "config.pbtxt").write_text(text)
    defaults = ModelOptions(device="cuda", gpu_memory=2**30, device_id=1, cuda_graph=True)
    options = read_config(folder / "config.pbtxt", defaults)
    assert options.device == device
    assert {name: getattr(options, name) for name in taken_back} == taken_back


@pytest.mark.parametrize(
    ("content", "words"), [(b"#" * (2**20 + 1), "not a model configuration"), (b'name: "\xff"', "not UTF-8 text")]
)
def test_a_file_that_is_no_configuration(folder: Path, content: bytes, words: str) -> None:
    (folder / "config.pbtxt").write_bytes(content)
    with pytest.raises(ModelError, match=words):
        read_config(folder / "config.pbtxt", CPU)


def test_a_warm_up_from_a_file(folder: Path, read: Callable[[str], ModelOptions]) -> None:
    inputs = 'inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 input_data_file: "row" } }'
    options = read(f'model_warmup {{ name: "w" {inputs} }}')
    assert options.warmup[0].inputs["x"].data == folder / "warmup" / "row"


BATCHING = "max_batch_size: 4\ndynamic_batching {{ {} }}"
WARMUP = 'model_warmup {{ name: "w" inputs {{ key: "x" value {{ {} }} }} }}'


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("max_batch: 4", "1:1", 'no field named "max_batch"'),
        ("max_batch_size: many", "1:17", "integer"),
        ('name: "digits', "1:7", "ending quote"),
        (r'name: "\x"', "1:7", "escape"),
        ("# first\n\nsequence_batching { }", "3:1", "no state is kept"),
        ("ensemble_scheduling { step { } }", "1:1", "one ONNX file"),
        ('name: "letters"', "1:1", "the model's folder is 'digits'"),
        ('platform: "tensorrt_plan"', "1:1", "only ONNX models"),
        ('backend: "python"', "1:1", "only ONNX models"),
        ("max_batch_size: -1", "1:1", "negative"),
        ("max_batch_size: 65537", "1:1", "65536 is the most"),
        (BATCHING.format("max_queue_delay_microseconds: 86400000001"), "2:20", "longer than a day"),
        (BATCHING.format("default_queue_policy { default_timeout_microseconds: 9000000000000 }"), "2:43", "a day"),
        (BATCHING.format("default_queue_policy { max_queue_size: 1048577 }"), "2:43", "1048576 is the most"),
        ("dynamic_batching { }", "1:1", "needs a max_batch_size"),
        ("max_batch_size: 4\ndynamic_batching {\n  preferred_batch_size: 8 }", "3:3", "not in 1…4"),
        ("max_batch_size: 4\ndynamic_batching { priority_levels: 2 }", "2:20", "order of their arrival"),
        ("max_batch_size: 4 dynamic_batching { default_queue_policy { timeout_action: DELAY } }", "1:61", "REJECT"),
        ("instance_group [\n { count: 1 },\n { kind: KIND_MODEL }\n]", "3:4", "KIND_MODEL is not supported"),
        ("instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]", "1:38", "several devices"),
        ("instance_group { kind: 99 }", "1:18", "stands for nothing"),
        ("instance_group { count: 1025 }", "1:18", "1025 instances"),
        ("instance_group { gpus: [0, 1] }", "1:18", "one"),
        ("instance_group { kind: KIND_CPU gpus: 1 }", "1:33", "on the CPU"),
        ("instance_group { kind: KIND_GPU count: 2 } optimization { cuda { graphs: true } }", None, "CUDA graph"),
        (TENSORRT.format('name: "openvino"'), "1:41", "the only one is tensorrt"),
        (TENSORRT.format('name: "tensorrt"') + " instance_group { kind: KIND_CPU }", "1:41", "KIND_GPU"),
        (TENSORRT.format('name: "tensorrt" parameters { key: "int8" value: "1" }'), "1:41", "precision_mode"),
        ("optimization { execution_accelerators { cpu_execution_accelerator { } } }", "1:41", "CPU provider"),
        ('instance_group { host_policy: "a" }', "1:18", "no host policies"),
        ("optimization { cuda { graphs: true } }", "1:23", "on a GPU"),
        ("optimization { cuda { busy_wait_events: true } }", "1:23", "how it waits"),
        ('model_operations { op_library_filename: "evil.so" }', "1:1", "no code runs"),
        ('model_repository_agents { agents { name: "a" } }', "1:1", "no code runs"),
        ("response_cache { enable: true }", "1:18", "no answers are kept"),
        ("model_transaction_policy { decoupled: true }", "1:28", "exactly one answer"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT }", "1:1", "not supported"),
        ('input [ { name: "x" data_type: TYPE_FP32 },\n { name: "y" reshape { shape: 1 } } ]', "2:14", "reshape"),
        ('input { name: "x" data_type: TYPE_FP32 dims: 0 }', "1:1", "-1 stands for any size"),
        ('input { name: "x" data_type: TYPE_BF16 dims: 1 }', "1:1", "data_type"),
        ("input { data_type: TYPE_FP32 dims: 1 }", "1:1", "has no name"),
        ('default_model_filename: "../../secret.onnx"', "1:1", "no plain name"),
        ('output { name: "y" data_type: TYPE_FP32 label_filename: "/etc/passwd" }', "1:41", "no plain name"),
        ('output { name: "y" data_type: TYPE_FP32 label_filename: "gone.txt" }', "1:41", "can't be read"),
        ('parameters { key: "execution_mode" value { string_value: "1" } }', "1:1", "'execution_mode'"),
        ('parameters { key: "intra_op_thread_count" value { string_value: "-2" } }', "1:1", "not in 0…1024"),
        ("version_policy { specific { versions: [0] } }", "1:29", "from 1 on"),
        ("version_policy { specific { } }", "1:18", "names no versions"),
        ('model_warmup { name: "w" }', "1:1", "has no inputs"),
        (WARMUP.format('dims: 2 input_data_file: "../row"'), "1:1", "no plain name"),
        (WARMUP.format("dims: -1 zero_data: true"), "1:1", "above 0"),
        (WARMUP.format("dims: 2"), "1:1", "has no data"),
        ('max_batch_size: 4\nmodel_warmup { name: "w" batch_size: 5 }', "2:1", "batch_size of 5, but 4 is the most"),
    ],
)
def test_what_cannot_be_done_is_refused_where_it_stands(
    folder: Path, read: Callable[[str], ModelOptions], text: str, place: str | None, words: str
) -> None:
    """What only several fields together make impossible has no place of its own."""
    with pytest.raises(ModelError) as caught:
        read(text)
    where = f"{folder / 'config.pbtxt'}:{place}" if place else str(folder / "config.pbtxt")
    assert caught.value.message.startswith(f"{where}: ")
    assert words in caught.value.message + (caught.value.help or "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes in folders are POSIX's")
def test_nothing_waits_for_a_pipe_in_the_place_of_a_file(folder: Path, read: Callable[[str], ModelOptions]) -> None:
    os.mkfifo(folder / "names.txt")
    with pytest.raises(ModelError, match=r":1:41: .*'names\.txt', which is not a regular one"):
        read('output { name: "y" data_type: TYPE_FP32 label_filename: "names.txt" }')
    (folder / "config.pbtxt").unlink()
    os.mkfifo(folder / "config.pbtxt")
    with pytest.raises(ModelError, match=r"config\.pbtxt is not a regular file"):
        read_config(folder / "config.pbtxt", CPU)


def test_a_field_without_effect_is_warned_of_when_the_model_is_loaded(
    folder: Path, served: Folder, caplog: Any
) -> None:
    """Once, and not each time that the repository is looked at."""
    (folder / "config.pbtxt").write_text('metric_tags { key: "team" value: "vision" }')

    async def ask(repository: Repository) -> None:
        polling = asyncio.create_task(repository.poll(0.01))
        await asyncio.sleep(0.2)
        polling.cancel()

    asked(served, ask)
    assert caplog.text.count("1:1: 'metric_tags' has no effect") == 1


PAGE = Path(__file__).parents[2] / "docs" / "model-configuration.md"


def test_the_example_in_the_documentation(folder: Path, read: Callable[[str], ModelOptions]) -> None:
    (folder / "digits.txt").write_text("\n".join("0123456789"))
    (text,) = re.findall(r"```protobuf\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    options = read(text)
    assert (options.max_batch, options.instances, len(options.labels["fc"])) == (16, 2, 10)


def test_the_documentation_names_every_field_that_is_honoured() -> None:
    page = PAGE.read_text("utf-8")
    assert [path for path in HONOURED if path.rpartition(".")[2] not in page] == []


def every_leaf(message: Any, around: str = "") -> list[str]:
    """The path of every field of the published configuration that isn't a message; maps are fields."""
    paths = []
    for field in message.fields:
        kind = field.message_type
        path = f"{around}{field.name}"
        paths += [path] if kind is None or kind.GetOptions().map_entry else every_leaf(kind, f"{path}.")
    return paths


@pytest.mark.parametrize("path", every_leaf(model_config_pb2.ModelConfig.DESCRIPTOR))
def test_every_field_there_is_does_something_or_is_told_of(path: str, read: Callable[[str], ModelOptions]) -> None:
    """A configuration of one field alone: options other than the defaults, a warning, or an error that names it."""
    config = model_config_pb2.ModelConfig()
    holder = config
    *around, last = path.split(".")
    for name in around:
        holder = getattr(holder, name)
        holder = holder.add() if hasattr(holder, "add") else holder
    field = holder.DESCRIPTOR.fields_by_name[last]
    if field.message_type is not None:
        value = getattr(holder, last)
        key = 1 if field.message_type.fields[0].cpp_type != field.CPPTYPE_STRING else "key"
        if field.message_type.fields[1].message_type is None:
            value[key] = "value"
        else:
            value[key].SetInParent()
    else:
        sample = {field.CPPTYPE_STRING: "text", field.CPPTYPE_BOOL: True}.get(field.cpp_type, 1)
        getattr(holder, last).append(sample) if field.is_repeated else setattr(holder, last, sample)
    text = text_format.MessageToString(config)
    try:
        changed = read(text) != CPU  # a warning is part of the options
    except ModelError as error:
        assert last in error.message or around[0] in error.message
    else:
        neutral = path in {"max_batch_size", "instance_group.count", "version_policy.latest.num_versions"}
        assert changed or neutral


def asked(files: Files | Folder, ask: Callable[[Repository], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        repository = Repository(files, read_override)
        await repository.start()
        try:
            return await asyncio.wait_for(ask(repository), 30)
        finally:
            await repository.close()

    return asyncio.run(run())


def states(repository: Repository) -> dict[str, tuple[str, str]]:
    return {entry.name: (entry.state, entry.reason) for entry in repository.index()}


@pytest.fixture
def served(folder: Path, save_classifier: SaveModel) -> Folder:
    """A repository of the classifier, to which a config.pbtxt may be added."""
    save_classifier().rename(folder / "1" / "model.onnx")
    (folder / "names.txt").write_text("zero\none\ntwo\n")
    return Folder(folder.parent, CPU, read_config)


def test_a_client_is_told_what_is_done(folder: Path, served: Folder) -> None:
    """The reply, in bytes and in JSON, is the file's message for the client's own classes."""
    (folder / "config.pbtxt").write_text(CLASSIFIER)

    async def ask(repository: Repository) -> tuple[bytes, dict[str, Any]]:
        message = config_of(repository.model("digits"))
        return message.SerializeToString(), as_json(message)

    binary, in_json = asked(served, ask)
    told = model_config_pb2.ModelConfig.FromString(binary)
    wanted = text_format.Parse(CLASSIFIER, model_config_pb2.ModelConfig())
    for field in ("name", "platform", "max_batch_size", "input", "version_policy", "parameters"):
        assert getattr(told, field) == getattr(wanted, field), field
    assert list(told.dynamic_batching.preferred_batch_size) == [2, 4]
    assert told.dynamic_batching.default_queue_policy.max_queue_size == 32
    assert told.instance_group[0].count == 2
    assert told.model_warmup[0].inputs == wanted.model_warmup[0].inputs
    assert json_format.ParseDict(json.loads(json.dumps(in_json)), model_config_pb2.ModelConfig()) == told
    assert in_json["input"][0]["dims"] == [1, 4, 4]
    assert in_json["dynamic_batching"]["max_queue_delay_microseconds"] == 500


def test_what_is_told_of_a_model_without_a_configuration(save_echo: SaveModel) -> None:
    path = save_echo()

    async def ask(repository: Repository) -> Any:
        return model_config_pb2.ModelConfig.FromString(config_of(repository.model("echo")).SerializeToString())

    told = asked(Files({"echo": path}, CPU), ask)
    assert (told.max_batch_size, list(told.input[0].dims), list(told.output[0].dims)) == (8, [2], [2])
    assert told.WhichOneof("scheduling_choice") == "dynamic_batching"
    assert told.version_policy.latest.num_versions == 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('input { name: "picture" data_type: TYPE_FP32 dims: [1, 4, 4] }', "the model has 'image'"),
        (
            'max_batch_size: 2 input { name: "image" data_type: TYPE_INT8 dims: [1, 4, 4] }',
            "declares the input 'image'",
        ),
        (
            'max_batch_size: 2 input { name: "image" data_type: TYPE_FP32 dims: [1, 5, 4] }',
            "declares the input 'image'",
        ),
        ('max_batch_size: 2 input { name: "image" data_type: TYPE_FP32 dims: [-1, 1, 4, 4] }', "declares the input"),
        ('max_batch_size: 2 output { name: "gc" data_type: TYPE_FP32 dims: 3 }', "the model has 'fc'"),
    ],
)
def test_a_configuration_of_another_model(folder: Path, served: Folder, text: str, words: str) -> None:
    (folder / "config.pbtxt").write_text(text)

    async def ask(repository: Repository) -> Any:
        with pytest.raises(Refused) as caught:
            await repository.load("digits")
        return states(repository)["digits"], caught.value.message

    (state, reason), message = asked(served, ask)
    assert state == "UNAVAILABLE"
    assert words in reason
    assert reason in message


def test_a_request_to_load_brings_its_own_configuration(folder: Path, served: Folder) -> None:
    """It stands in for the file: what it doesn't say is as the server has it, not as the file has."""
    (folder / "config.pbtxt").write_text("max_batch_size: 4 dynamic_batching { max_queue_delay_microseconds: 9 }")
    sent = json_format.MessageToJson(model_config_pb2.ModelConfig(max_batch_size=2))

    async def ask(repository: Repository) -> list[tuple[int, float]]:
        seen = []
        for load in (None, sent, None):
            if load or seen:
                await repository.load("digits", load)
            options = repository.model("digits").options
            seen.append((options.max_batch, options.max_delay))
        return seen

    assert asked(served, ask) == [(4, 9e-6), (2, 0.0), (4, 9e-6)]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ("{", "'config'"),
        ("[]", "not a JSON object"),
        ("[" * 100_000, "'config'"),
        ('{"max_batch": 2}', "max_batch"),
        ('{"name": "other"}', "other"),
        ('{"output": [{"name": "fc", "data_type": "TYPE_FP32", "label_filename": "names.txt"}]}', "may name none"),
        ('{"version_policy": {"specific": {"versions": [7]}}}', "version 7"),
        ('{"sequence_batching": {}}', "no state"),
        ('{"instance_group": [{"count": 99999999999999}]}', "count"),
        ('{"max_batch_size": "x"}', "'max_batch_size' takes a whole number"),
        ('{"max_batch_size": [1]}', "'max_batch_size' takes a whole number"),
        ('{"input": [{"dims": ["a"]}]}', "'input.dims' takes a whole number"),
        ('{"input": {"name": "x"}}', "'input' takes a list"),
        ('{"name": 3}', "'name' takes a text"),
        ('{"response_cache": {"enable": "yes"}}', "'response_cache.enable' takes true or false"),
        ('{"dynamic_batching": 3}', "'dynamic_batching' takes a JSON object"),
    ],
)
def test_a_request_to_load_with_a_wrong_configuration(served: Folder, sent: str, words: str) -> None:
    async def ask(repository: Repository) -> Any:
        with pytest.raises(Refused, match="can't be loaded") as caught:
            await repository.load("digits", sent)
        return caught.value, repository.model("digits").options

    refused, options = asked(served, ask)
    assert words in refused.message
    assert options == CPU


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(CLASSIFIER)), other=st.text(max_size=4), length=st.integers(0, 9))
def test_noise_in_a_configuration(
    read: Callable[[str], ModelOptions], folder: Path, cut: int, other: str, length: int
) -> None:
    (folder / "names.txt").write_text("zero\n")
    text = CLASSIFIER[:cut] + other + CLASSIFIER[cut + length :]
    for attempt in (read, partial(read_override, "digits", defaults=CPU)):
        try:
            assert isinstance(attempt(text), ModelOptions)
        except ModelError as error:
            assert error.message
        except UnicodeEncodeError:  # a lone surrogate, which no file holds
            pass
