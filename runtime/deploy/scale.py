"""How much of a cluster a model may take."""

import re
from dataclasses import dataclass

from runtime.errors import InputError

# What Kubernetes writes an amount of memory in: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity
_QUANTITY = re.compile(r"[1-9]\d*(\.\d+)?([kKMGTPE]i?)?")


@dataclass(frozen=True)
class Scale:
    """Copies of a server, and what each may use.

    Attributes:
        replicas: copies.
        max_replicas: copies when there is much to do.
        cpus: CPU cores of a copy: a thread of each run that may be under way.
        gpu: whether a copy has a GPU, for itself.
        concurrency: requests that a copy works on at a time, with one batch that runs and one that waits.
        memory: of a copy, as Kubernetes writes it.

    Raises:
        InputError: the numbers contradict each other, or the memory is no quantity.
    """

    replicas: int
    max_replicas: int
    cpus: int
    gpu: bool
    concurrency: int
    memory: str = "2Gi"

    def __post_init__(self) -> None:
        if self.max_replicas < self.replicas:
            raise InputError(f"--max-replicas {self.max_replicas} is less than --replicas {self.replicas}")
        if not _QUANTITY.fullmatch(self.memory):
            raise InputError(f"--memory {self.memory} is no quantity of Kubernetes", help="write for example 2Gi")
