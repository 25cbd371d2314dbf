"""The models that a server has: found, loaded, replaced and unloaded while others are being asked."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar

from runtime.errors import ModelError, UserError
from runtime.serving.declared import check_declared
from runtime.serving.memory import give_back_freed_memory
from runtime.serving.model import ServedModel
from runtime.serving.options import ModelOptions
from runtime.serving.refused import Reason, Refused
from runtime.serving.rows import rows_are_independent
from runtime.serving.sources import Fingerprint, ModelFiles, Override, Source
from runtime.serving.statistics import Statistics
from runtime.serving.warmup import warm_up
from runtime.session import Session

log = logging.getLogger(__name__)

Given = ParamSpec("Given")
Made = TypeVar("Made")
State = Literal["READY", "LOADING", "UNLOADING", "UNAVAILABLE"]
# The options that a configuration sent with a load request asks for: the model's name, the text, the server's options.
ReadOverride = Callable[[str, str, ModelOptions], ModelOptions]
OpenSession = Callable[[Path, ModelOptions], Session]

# Names of models shown in a message before it becomes a list.
SHOWN_NAMES = 8


@dataclass(frozen=True)
class Entry:
    """A line of the repository's index: a version of a model, its state, and why it is in it where that isn't plain."""

    name: str
    version: str
    state: State
    reason: str = ""
    help: str = ""  # what whoever runs the server can do about it; no matter of those who ask

    @property
    def failure(self) -> str:
        """What to tell of one that can't be loaded."""
        which = f"version {self.version} of '{self.name}'" if self.version else f"the model '{self.name}'"
        return f"{which} can't be loaded: {self.reason}" + (f" ({self.help})" if self.help else "")


@dataclass
class _Version:
    """One version of a model, whatever its state; one that serves goes on while a new file fails to load."""

    state: State = "LOADING"
    reason: str = ""
    help: str = ""
    model: ServedModel | None = None
    loaded: tuple[Fingerprint, ModelOptions] | None = None
    refused: tuple[Fingerprint, ModelOptions] | None = None

    def note(self, error: UserError) -> None:
        """Keeps what stands against the version."""
        self.reason, self.help = error.message, error.help or ""


@dataclass
class _Slot:
    """One model: its versions, and what keeps two changes of it apart."""

    versions: dict[str, _Version] = field(default_factory=dict)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    unloaded: bool = False  # by request, so that polling leaves it alone
    override: Override | None = None
    seen: dict[str, Fingerprint] = field(default_factory=dict)

    def newest(self) -> str:
        """The newest version that serves, empty where none does."""
        newest = ""
        for number, version in self.versions.items():  # asked for with every request
            if version.model is not None and (not newest or int(number) > int(newest)):
                newest = number
        return newest


class Repository:
    """Models by name and version. All methods are to be called on the event loop; files are read in threads."""

    def __init__(self, source: Source, read_override: ReadOverride, open_session: OpenSession = Session) -> None:
        """The models of `source`.

        Args:
            source: where they are.
            read_override: reads a configuration that comes with a load request.
            open_session: loads a model's file.
        """
        self._source = source
        self._read_override = read_override
        self._open_session = open_session
        self._slots: dict[str, _Slot] = {}
        self._has_started = False
        self._changes: set[asyncio.Task[None]] = set()
        # By name and version: they only ever grow, whatever is loaded, replaced or removed.
        self._statistics: defaultdict[tuple[str, str], Statistics] = defaultdict(Statistics)
        self.draining = False

    async def start(self) -> list[Entry]:
        """Loads every model that the source has; returns those that could not be, for the caller to tell of.

        Raises:
            ModelError: the source can't be read.
        """
        names = await asyncio.to_thread(self._source.names)
        await asyncio.gather(*(self._changed(name) for name in names))
        self._has_started = True
        return [entry for entry in self.index() if entry.state == "UNAVAILABLE"]

    def ready(self) -> bool:
        """Whether the server takes requests."""
        return not self.draining

    def names(self) -> list[str]:
        """The names of the models that are, were or should be loaded."""
        return sorted(self._slots)

    def versions(self, name: str) -> list[str]:
        """The versions of a model that serve, the oldest first.

        Raises:
            Refused: NOT_FOUND where there is no such model.
        """
        versions = self._slot(name).versions
        return sorted((number for number, version in versions.items() if version.model), key=int)

    def models(self) -> list[ServedModel]:
        """Every version that serves."""
        versions = [version for name in self.names() for version in self._slots[name].versions.values()]
        return [version.model for version in versions if version.model is not None]

    def model(self, name: str, version: str = "") -> ServedModel:
        """A version of a model, the newest where none is named; ``with`` holds it open while it is being replaced.

        Raises:
            Refused: NOT_FOUND where there is no such model or version, UNAVAILABLE where it doesn't serve now.
        """
        if self.draining:
            raise Refused(Reason.UNAVAILABLE, "the server is stopping")
        slot = self._slot(name)
        if not version:
            version = slot.newest()
        found = slot.versions.get(version)
        if found is not None and found.model is not None:
            return found.model
        if version and found is None:
            known = ", ".join(slot.versions) or "none"
            raise Refused(Reason.NOT_FOUND, f"the model '{name}' has no version '{version}'; it has {known}")
        states = found or next(iter(slot.versions.values()), None)
        why = f": {states.reason}" if states is not None and states.reason else ""
        raise Refused(Reason.UNAVAILABLE, f"the model '{name}' is not ready{why}")

    def index(self) -> list[Entry]:
        """Every version of every model with its state."""
        return [
            Entry(name, number, version.state, version.reason, version.help)
            for name in self.names()
            for number, version in sorted(self._slots[name].versions.items(), key=lambda item: _order(item[0]))
        ]

    async def load(self, name: str, config: str | None = None) -> None:
        """Loads a model, again where it serves already; the old one answers until the new one is ready.

        Args:
            name: a model that the source has.
            config: a configuration to use instead of the model's own, as JSON text.

        Raises:
            Refused: NOT_FOUND where there is no such model, INVALID where it or the configuration can't be used.
        """
        self._refuse_draining()
        await self._to_its_end(self._load(name, config))

    async def unload(self, name: str) -> None:
        """Unloads all versions of a model, when what was asked of them is answered.

        Raises:
            Refused: NOT_FOUND where there is no such model.
        """
        await self._to_its_end(self._unload(name, self._slot(name)))

    async def poll(self, seconds: float) -> None:
        """Looks for changes of the source every so many seconds, until it is cancelled."""
        told = ""
        while True:
            await asyncio.sleep(seconds)
            try:
                names = await asyncio.to_thread(self._source.names)
            except ModelError as error:  # it may come back; what is loaded serves on
                if told != error.message:
                    log.warning("%s", error.message)
                told = error.message
                continue
            told = ""
            gone = [name for name, slot in self._slots.items() if name not in names and not slot.unloaded]
            await asyncio.gather(*(self._gone(name) for name in gone), *(self._changed(name) for name in names))

    async def close(self) -> None:
        """Takes no more requests, and returns when all that came are answered."""
        self.draining = True
        await asyncio.gather(*(model.close() for model in self.models()))

    async def _to_its_end(self, change: Coroutine[Any, Any, None]) -> None:
        """Makes a change, to its end also where whoever asked for it gives up meanwhile."""
        task = asyncio.ensure_future(change)
        self._changes.add(task)
        task.add_done_callback(self._changes.discard)
        await asyncio.shield(task)

    async def _load(self, name: str, config: str | None) -> None:
        async with self._changing(name) as slot:
            try:
                override = None if config is None else partial(self._read_override, name, config)
                files = await _in_thread(self._source.find, name, override)
            except KeyError:
                raise Refused(Reason.NOT_FOUND, f"the repository has no model '{name}'") from None
            except UserError as error:
                raise Refused(Reason.INVALID, f"the model '{name}' can't be loaded: {error.message}") from None
            before = slot.unloaded, slot.override
            slot.unloaded, slot.override = False, override
            await self._bring(name, slot, files, again=True)
            failed = [version for version in files.versions if slot.versions[version].refused]
            if len(failed) == len(files.versions):  # nothing has come of it, which polling might go on with
                slot.unloaded, slot.override = before
            if failed:
                reason = slot.versions[failed[0]].reason
                raise Refused(Reason.INVALID, f"version {failed[0]} of '{name}' can't be loaded: {reason}")

    async def _unload(self, name: str, slot: _Slot) -> None:
        async with slot.lock:
            slot.unloaded = True
            await asyncio.gather(*(_retire(name, *each, "unloaded") for each in slot.versions.items()))

    @asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[_Slot]:
        """The slot of a model, new where there is none, while nobody else changes it; kept where it gets a version."""
        while True:
            slot = self._slots.setdefault(name, _Slot())
            async with slot.lock:
                if self._slots.get(name) is not slot:  # it was taken out while this waited for it
                    continue
                try:
                    yield slot
                finally:
                    if not slot.versions:
                        del self._slots[name]
                return

    def _refuse_draining(self) -> None:
        if self.draining:
            raise Refused(Reason.UNAVAILABLE, "the server is stopping")

    def _slot(self, name: str) -> _Slot:
        slot = self._slots.get(name)
        if slot is None:
            names = self.names()
            known = ", ".join(f"'{known}'" for known in names[:SHOWN_NAMES]) or "none"
            more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
            raise Refused(Reason.NOT_FOUND, f"there is no model '{name}' here; there is {known}{more}")
        return slot

    async def _changed(self, name: str) -> None:
        """Loads what is new or other than what serves; a file isn't touched until two looks find it the same."""
        async with self._changing(name) as slot:
            if slot.unloaded:
                return
            try:
                files = await _in_thread(self._source.find, name, slot.override)
            except KeyError:  # it went away just now
                return
            except UserError as error:
                self._misplaced(name, slot, error)
                return
            settled = not slot.versions or slot.seen == files.fingerprints
            slot.seen = dict(files.fingerprints)
            if settled:
                await self._bring(name, slot, files)

    def _misplaced(self, name: str, slot: _Slot, error: UserError) -> None:
        """Notes that a model can't even be looked at; versions that serve go on."""
        if any(version.reason == error.message for version in slot.versions.values()):
            return  # it was told when polling found it first
        if not slot.versions:
            slot.versions[""] = _Version("UNAVAILABLE")
        for version in slot.versions.values():
            version.note(error)
        self._warn(Entry(name, "", "UNAVAILABLE", error.message, error.help or ""))

    def _warn(self, entry: Entry) -> None:
        if self._has_started:
            log.warning("%s", entry.failure)

    async def _gone(self, name: str) -> None:
        slot = self._slots[name]
        async with slot.lock:
            await asyncio.gather(*(_retire(name, *each) for each in slot.versions.items()))
            del self._slots[name]
        log.info("the model '%s' is gone from the repository", name)

    async def _bring(self, name: str, slot: _Slot, files: ModelFiles, again: bool = False) -> None:
        """Has the wanted versions serve, and, when they all do, no others."""
        slot.versions.pop("", None)
        for number, path in files.versions.items():
            version = slot.versions.setdefault(number, _Version())
            mark = (files.fingerprints[number], files.options)
            if again or mark not in (version.loaded, version.refused):
                await self._replace(name, number, version, path, mark)
            elif mark == version.loaded:
                version.reason = ""  # whatever stood against looking at it is mended
        if all(slot.versions[number].model for number in files.versions):
            others = [number for number in slot.versions if number not in files.versions]
            await asyncio.gather(*(_retire(name, number, slot.versions[number]) for number in others))
            for number in others:
                del slot.versions[number]

    async def _replace(
        self, name: str, number: str, version: _Version, path: Path, mark: tuple[Fingerprint, ModelOptions]
    ) -> None:
        """Puts a version in the place of the one that serves, which stays if the new one can't be loaded."""
        if version.model is None:
            version.state, version.reason = "LOADING", ""
        try:
            statistics = self._statistics[name, number]
            model = await _in_thread(open_model, name, number, path, mark[1], self._open_session, statistics)
        except UserError as error:
            version.refused = mark
            version.note(error)
            if version.model is None:
                version.state = "UNAVAILABLE"
            self._warn(Entry(name, number, "UNAVAILABLE", error.message, error.help or ""))
            await self._give_back()
            return
        model.start()
        old, version.model = version.model, model
        version.state, version.reason, version.loaded, version.refused = "READY", "", mark, None
        log.info("version %s of '%s' is ready on %s (%s)", number, name, model.device, model.device_reason)
        if old is not None:
            await old.close()
            del old  # and with it its weights
        await self._give_back()

    async def _give_back(self) -> None:
        """Gives back what a load has taken; while the server starts the other models are loaded into it."""
        if self._has_started:
            await asyncio.to_thread(give_back_freed_memory)


def open_model(
    name: str,
    version: str,
    path: Path,
    options: ModelOptions,
    open_session: OpenSession = Session,
    statistics: Statistics | None = None,
) -> ServedModel:
    """Loads a model's file and warms it up; it answers once it is started, and goes on with `statistics`, if given.

    Raises:
        ModelError: the file can't be loaded, it isn't what its configuration declares, the warm-up fails, or its rows
            can't run together although they should.
        DeviceError: the device doesn't work here.
    """
    for warning in options.warnings:
        log.warning("%s", warning)
    session = open_session(path, options)
    check_declared(session, options)
    batched = options.max_batch > 1 and rows_are_independent(session)
    if options.insist_on_batching and options.max_batch > 1 and not batched:
        raise ModelError(
            f"{path} is to run batches of {options.max_batch}, but its batch is fixed, or its rows aren't independent",
            help="set max_batch_size: 0 in its config.pbtxt",
        )
    warm_up(session, options.warmup, batched)
    return ServedModel(name, version, session, options, batched, statistics)


async def _in_thread(work: Callable[Given, Made], *given: Given.args, **named: Given.kwargs) -> Made:
    """Reads a model in a thread. Whatever goes wrong is told of the model, and neither ends the server nor others.

    Raises:
        UserError: what `work` raises, or says in words what else went wrong.
        KeyError: what `work` raises.
    """
    try:
        return await asyncio.to_thread(work, *given, **named)
    except (UserError, KeyError):
        raise
    except MemoryError:
        raise ModelError("there isn't enough memory for it") from None
    except OSError as error:
        raise ModelError(f"cannot read {error.filename}: {error.strerror}") from None
    except Exception as error:
        log.error("a model couldn't be read", exc_info=error)
        raise ModelError("internal error; the server's log says more") from None


async def _retire(name: str, number: str, version: _Version, reason: str = "") -> None:
    """Stops a version of a model when what it was asked is answered."""
    model, version.model = version.model, None
    version.loaded = version.refused = None
    if model is not None:
        version.state = "UNLOADING"
        await model.close()
        del model  # and with it its weights
        await asyncio.to_thread(give_back_freed_memory)
        log.info("version %s of '%s' is unloaded", number, name)
    version.state, version.reason = "UNAVAILABLE", reason


def _order(version: str) -> int:
    return int(version) if version else 0
