"""The YAML language server, driven over its standard streams as an editor drives it."""

from __future__ import annotations

import itertools
import json
import subprocess
import threading
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import Any

SECONDS = 30


class LanguageServer:
    """A running server that checks every document against one schema."""

    def __init__(self, program: Path, schema: Path) -> None:
        command = ["node", str(program), "--stdio"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.settings = {
            "yaml": {
                "schemas": {schema.as_uri(): "/*.yaml"},
                "validate": True, "hover": True, "completion": True, "schemaStore": {"enable": False},
            }
        }  # fmt: skip
        self.numbers = itertools.count(1)
        self.answers: dict[int, Queue[Any]] = {}
        self.diagnostics: Queue[dict[str, Any]] = Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        markdown = {"documentationFormat": ["markdown"], "snippetSupport": True}
        capabilities = {
            "textDocument": {"completion": {"completionItem": markdown}, "hover": {"contentFormat": ["markdown"]}},
            "workspace": {"configuration": True, "didChangeConfiguration": {}},
        }
        self.ask("initialize", {"processId": None, "rootUri": None, "capabilities": capabilities})
        self.tell("initialized", {})
        self.tell("workspace/didChangeConfiguration", {"settings": self.settings})

    def __enter__(self) -> LanguageServer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.process.terminate()
        self.process.wait(SECONDS)

    def open(self, text: str) -> Document:
        """Opens a text as a file of its own."""
        document = Document(self, f"file:///spec{next(self.numbers)}.yaml", text)
        item = {"uri": document.uri, "languageId": "yaml", "version": 1, "text": text}
        self.tell("textDocument/didOpen", {"textDocument": item})
        return document

    def ask(self, method: str, params: Any) -> Any:
        """The server's answer to a request."""
        number = next(self.numbers)
        answer: Queue[Any] = Queue()
        self.answers[number] = answer
        self._send({"id": number, "method": method, "params": params})
        found = answer.get(timeout=SECONDS)
        assert "error" not in found, found["error"]
        return found["result"]

    def tell(self, method: str, params: Any) -> None:
        """Sends a notification."""
        self._send({"method": method, "params": params})

    def _send(self, message: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        assert self.process.stdin is not None
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self.process.stdin.flush()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            length = int(line.partition(b":")[2])
            while self.process.stdout.readline().strip():
                pass
            self._take(json.loads(self.process.stdout.read(length)))

    def _take(self, message: dict[str, Any]) -> None:
        if message.get("method") == "workspace/configuration":
            wanted = [self.settings.get(item["section"], {}) for item in message["params"]["items"]]
            self._send({"id": message["id"], "result": wanted})
        elif message.get("method") == "textDocument/publishDiagnostics":
            self.diagnostics.put(message["params"])
        elif "id" in message and "method" in message:
            self._send({"id": message["id"], "result": None})
        elif "id" in message:
            self.answers.pop(message["id"]).put(message)


class Document:
    """A file that is open in the server."""

    def __init__(self, server: LanguageServer, uri: str, text: str) -> None:
        self.server, self.uri, self.text = server, uri, text

    def diagnostics(self) -> list[str]:
        """What the server says of the file, each with the text that it marks."""
        try:
            while True:
                found = self.server.diagnostics.get(timeout=SECONDS)
                if found["uri"] == self.uri:
                    return [f"{self._marked(item['range'])}: {item['message']}" for item in found["diagnostics"]]
        except Empty:
            raise AssertionError("the server says nothing of the file") from None

    def completions(self, after: str) -> dict[str, Any]:
        """What may stand behind a piece of the text, by its label."""
        found = self._at("textDocument/completion", after)
        return {item["label"]: item for item in found["items"]}

    def hover(self, over: str) -> str:
        """The documentation of what the text ends in."""
        found = self._at("textDocument/hover", over, -1)
        return str(found["contents"]["value"]) if found else ""

    def _at(self, method: str, text: str, move: int = 0) -> Any:
        before = self.text[: self.text.index(text) + len(text)]
        position = {"line": before.count("\n"), "character": len(before.rpartition("\n")[2]) + move}
        return self.server.ask(method, {"textDocument": {"uri": self.uri}, "position": position})

    def _marked(self, place: dict[str, Any]) -> str:
        line = self.text.splitlines()[place["start"]["line"]]
        end = place["end"]["character"] if place["start"]["line"] == place["end"]["line"] else None
        return line[place["start"]["character"] : end]
