"""The store in one SQLite file: the embedded default. Durable, one server per file."""

from sightline.stores.sqlite.store import SqliteStore, Synchronous, migrate

__all__ = ["SqliteStore", "Synchronous", "migrate"]
