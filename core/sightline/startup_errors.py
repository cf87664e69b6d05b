"""Why a process cannot begin its work: for whoever started it, in one line, without a traceback.

StartupError
 ├── StoreLocked           another server owns the database
 ├── SchemaTooNew          written by a newer version
 ├── StoreUnusable         cannot be opened, read or written
 ├── AgentNotLoadable
 ├── ToolRefused           a tool that no model could be told of
 └── ExtraMissing          what was asked for needs an optional part of the installation
"""

from __future__ import annotations

from sightline.errors import SightlineError

__all__ = [
    "AgentNotLoadable",
    "ExtraMissing",
    "SchemaTooNew",
    "StartupError",
    "StoreLocked",
    "StoreUnusable",
    "ToolRefused",
]


class StartupError(SightlineError):
    """Something outside has to change before the process can begin."""

    code = "startup"


class StoreLocked(StartupError):
    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"{self.path} is in use by another server; one server per SQLite file"


class SchemaTooNew(StartupError):
    def __init__(self, path: str, found: int, known: int) -> None:
        super().__init__(path, found, known)
        self.path = path
        self.found = found
        self.known = known

    def __str__(self) -> str:
        return f"{self.path} has schema version {self.found}, newer than version {self.known} that this release knows"


class StoreUnusable(StartupError):
    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot use {self.path}: {self.reason}"


class AgentNotLoadable(StartupError):
    def __init__(self, target: str, reason: str) -> None:
        super().__init__(target, reason)
        self.target = target
        self.reason = reason

    def __str__(self) -> str:
        return f"cannot load agent {self.target!r}: {self.reason}"


class ToolRefused(StartupError):
    def __init__(self, tool: str, reason: str) -> None:
        super().__init__(tool, reason)
        self.tool = tool
        self.reason = reason

    def __str__(self) -> str:
        return f"tool {self.tool!r}: {self.reason}"


class ExtraMissing(StartupError):
    def __init__(self, wanted: str, extra: str) -> None:
        super().__init__(wanted, extra)
        self.wanted = wanted
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.wanted} needs the extra {self.extra!r}: pip install 'sightline[{self.extra}]'"
