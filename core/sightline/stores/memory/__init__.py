"""The store in memory: the specification that other stores are compared with. Nothing survives the process."""

from sightline.stores.memory.attachments import MemoryAttachments
from sightline.stores.memory.store import MemoryStore

__all__ = ["MemoryAttachments", "MemoryStore"]
