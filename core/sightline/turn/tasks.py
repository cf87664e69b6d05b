"""Work of a turn that outlives the task that began it: see `sightline.persevering`."""

from sightline.persevering import STORE_RETRIES, finish, persistently, retrieve

__all__ = ["STORE_RETRIES", "finish", "persistently", "retrieve"]
