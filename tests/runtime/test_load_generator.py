"""The load generator of the serving benchmarks: what it counts as right, wrong, refused and lost."""

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.loadgen import Load, drive
from benchmarks.serving.wire import Exchange, Scaled, binary_request, infer_path, json_request, post
from tests.runtime.served import Served, serving

INPUT = np.float32([[1, 2], [3, 4]])
PATH = infer_path("echo1")


@pytest.fixture
def served(save_echo: Callable[..., Path]) -> Iterator[Served]:
    with serving(save_echo()) as served:
        yield served


@pytest.mark.parametrize("write", [json_request, binary_request])
def test_answers_are_held_against_what_is_expected(served: Served, write: Callable[..., bytes]) -> None:
    request = write(PATH, {"x": INPUT})
    right, wrong = Exchange(request, expected={None: INPUT}), Exchange(request, expected={None: INPUT + 0.01})
    refused = Exchange(post(PATH, b"{"), frozenset({400}))
    surprising = Exchange(post(PATH, b"{"))
    port = served.address[1]
    for exchanges, count in (([right, refused], 0), ([right, wrong, right], 10), ([right, surprising, right], 10)):
        outcome = drive(Load(port, exchanges, connections=3, requests=30))
        assert sum(outcome.count(status) for status in (200, 400)) == 30
        assert (outcome.wrong, outcome.lost) == (count, 0), outcome.complaint


def test_versions_are_held_against_their_own_numbers(served: Served) -> None:
    request = json_request(PATH, {"x": INPUT})
    port = served.address[1]
    assert drive(Load(port, [Exchange(request, expected=Scaled(INPUT))], 1, requests=2)).wrong == 0
    assert drive(Load(port, [Exchange(request, expected={"2": INPUT})], 1, requests=2)).wrong == 2


def test_an_open_loop_keeps_its_rate(served: Served) -> None:
    exchange = Exchange(json_request(PATH, {"x": INPUT}), expected={None: INPUT})
    outcome = drive(Load(served.address[1], [exchange], connections=4, seconds=1.0, rate=50))
    assert 45 <= outcome.count() + outcome.unsent <= 50
    assert outcome.wrong == outcome.lost == 0


def test_requests_without_an_answer_are_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hang_up() -> None:
            for _ in range(3):
                connection, _ = listener.accept()
                connection.recv(1000)
                connection.close()

        server = threading.Thread(target=hang_up)
        server.start()
        outcome = drive(Load(listener.getsockname()[1], [Exchange(post(PATH, b"{}"))], connections=1, requests=2))
        with socket.create_connection(listener.getsockname()) as last:
            last.sendall(b"x")
        server.join(10)
    assert outcome.lost == 2
