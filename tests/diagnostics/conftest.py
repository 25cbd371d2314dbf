"""`pytest tests/diagnostics --update-diagnostics` rewrites the expected outputs from what netspec says now."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    help = "rewrite the expected outputs in tests/diagnostics/*.md; read the difference before keeping it"
    parser.addoption("--update-diagnostics", action="store_true", default=False, help=help)
