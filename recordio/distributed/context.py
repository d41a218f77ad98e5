"""Input contexts: which input pipeline this process is, of how many, and how many replicas there are in all.

    InputContext(num_input_pipelines, input_pipeline_id, num_replicas_in_sync)      tf.distribute's three numbers
    InputContext.detect()      arguments, torch.distributed, jax.distributed, TF_CONFIG, torchrun, Open MPI, Slurm

No framework is imported to find that out: only one that is there, and initialised, is asked.

Source: tf.distribute.InputContext; the documents of torchrun, Slurm (srun, sbatch) and Open MPI (mpirun) on their
variables.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from recordio.arguments import whole_number
from recordio.errors import RequestError

_NOTHING = "nothing: one process"
_RANKS = (
    ("torchrun", "RANK", "WORLD_SIZE"),
    # In front of Slurm: mpirun starts its daemons with srun, whose variables the ranks may inherit.
    ("OpenMPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("Slurm", "SLURM_PROCID", "SLURM_NTASKS"),
)
# Steps that srun did not start: an interactive shell and a batch script (slurm.h, SLURM_INTERACTIVE_STEP and
# SLURM_BATCH_SCRIPT).
_SHELL_STEPS = ("4294967290", "4294967291")
# Tasks that read input, in the order of their pipelines.
_CHIEFS = ("chief", "master")
_READING_TASKS = (*_CHIEFS, "worker")


class InputContext:
    """What an input pipeline must know to read its part. Read-only; equal if the three numbers are."""

    __slots__ = ("_detected_from", "_input_pipeline_id", "_num_input_pipelines", "_num_replicas_in_sync")

    def __init__(
        self, num_input_pipelines: int = 1, input_pipeline_id: int = 0, num_replicas_in_sync: int = 1
    ) -> None:
        """Check the numbers.

        Args:
            num_input_pipelines: P, processes that read.
            input_pipeline_id: which of them this is, from 0.
            num_replicas_in_sync: R, model copies in all; every pipeline feeds R / P of them.

        Raises:
            RequestError: one is out of range, or R is no multiple of P. TypeError: no int.
        """
        pipelines = whole_number("num_input_pipelines", num_input_pipelines, least=1)
        pipeline = whole_number("input_pipeline_id", input_pipeline_id, least=0)
        replicas = whole_number("num_replicas_in_sync", num_replicas_in_sync, least=1)
        if pipeline >= pipelines:
            raise RequestError(
                f"input_pipeline_id {pipeline} of num_input_pipelines {pipelines}", advice="They count from 0"
            )
        if replicas % pipelines:
            raise RequestError(
                f"num_replicas_in_sync {replicas} is no multiple of num_input_pipelines {pipelines}",
                advice="It counts the replicas of all pipelines, and each pipeline feeds as many as another",
            )
        self._num_input_pipelines, self._input_pipeline_id = pipelines, pipeline
        self._num_replicas_in_sync, self._detected_from = replicas, "arguments"

    @property
    def num_input_pipelines(self) -> int:
        """P, processes that read."""
        return self._num_input_pipelines

    @property
    def input_pipeline_id(self) -> int:
        """Which of them this is, from 0."""
        return self._input_pipeline_id

    @property
    def num_replicas_in_sync(self) -> int:
        """R, model copies in all."""
        return self._num_replicas_in_sync

    @property
    def num_local_replicas(self) -> int:
        """Model copies that this pipeline feeds, R / P."""
        return self._num_replicas_in_sync // self._num_input_pipelines

    @property
    def detected_from(self) -> str:
        """What `detect` found the numbers in: "arguments", "torch.distributed", "TF_CONFIG" and so on."""
        return self._detected_from

    def get_per_replica_batch_size(self, global_batch_size: int) -> int:
        """The records of one replica.

        Raises:
            RequestError: they would differ from replica to replica.
        """
        size = whole_number("global_batch_size", global_batch_size, least=0)
        if size % self._num_replicas_in_sync:
            raise RequestError(
                f"the global_batch_size {size} is not divisible by num_replicas_in_sync {self._num_replicas_in_sync}",
                advice="Give a multiple; or let recordio.distribute split a global batch of any size",
            )
        return size // self._num_replicas_in_sync

    @classmethod
    def detect(
        cls,
        num_input_pipelines: int | None = None,
        input_pipeline_id: int | None = None,
        num_replicas_in_sync: int | None = None,
    ) -> InputContext:
        """Find out which pipeline this process is.

        Whoever knows first is believed: the arguments; torch.distributed or jax.distributed, if they are imported and
        initialised; the variables TF_CONFIG, those of torchrun, of mpirun, of srun. If nobody knows, there is one.

        Args:
            num_input_pipelines, input_pipeline_id: both or none of them.
            num_replicas_in_sync: one for each pipeline by default.

        Raises:
            RequestError: a variable says something that cannot be; it is named.
        """
        if (num_input_pipelines is None) != (input_pipeline_id is None):
            given = "num_input_pipelines" if input_pipeline_id is None else "input_pipeline_id"
            raise RequestError(
                f"{given} is given alone", advice="Give num_input_pipelines and input_pipeline_id, or none"
            )
        source, pipelines, pipeline = "arguments", num_input_pipelines, input_pipeline_id
        if pipelines is None or pipeline is None:
            source, pipelines, pipeline = _from_torch() or _from_jax() or _from_environment(os.environ)
        replicas = pipelines if num_replicas_in_sync is None else num_replicas_in_sync
        context = cls(pipelines, pipeline, replicas)
        context._detected_from = source
        return context

    def __eq__(self, other: object) -> bool:
        return self._numbers() == other._numbers() if isinstance(other, InputContext) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._numbers())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (*self._numbers(), self._detected_from)

    def __repr__(self) -> str:
        names = ("num_input_pipelines", "input_pipeline_id", "num_replicas_in_sync")
        numbers = ", ".join(f"{name}={value}" for name, value in zip(names, self._numbers(), strict=True))
        found = "" if self._detected_from == "arguments" else f" from {self._detected_from}"
        return f"InputContext({numbers}){found}"

    def _numbers(self) -> tuple[int, int, int]:
        return self._num_input_pipelines, self._input_pipeline_id, self._num_replicas_in_sync


def as_input_context(value: Any) -> InputContext:
    """Take an `InputContext`, or anything with its three numbers: a tf.distribute.InputContext.

    Raises:
        TypeError: it has not. RequestError: its numbers cannot be.
    """
    if isinstance(value, InputContext):
        return value
    names = ("num_input_pipelines", "input_pipeline_id", "num_replicas_in_sync")
    if not all(hasattr(value, name) for name in names):
        raise TypeError(f"context is an InputContext, not {value!r}")
    return InputContext(*(getattr(value, name) for name in names))


def _restored(pipelines: int, pipeline: int, replicas: int, detected_from: str) -> InputContext:
    context = InputContext(pipelines, pipeline, replicas)
    context._detected_from = detected_from
    return context


_Found = tuple[str, int, int]  # where, pipelines, pipeline


def _from_torch() -> _Found | None:
    torch: Any = sys.modules.get("torch")
    distributed = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return "torch.distributed", int(distributed.get_world_size()), int(distributed.get_rank())


def _from_jax() -> _Found | None:
    jax: Any = sys.modules.get("jax")
    state: Any = getattr(sys.modules.get("jax._src.distributed"), "global_state", None)
    asked = getattr(getattr(jax, "distributed", None), "is_initialized", None)  # older ones have it not
    if not (asked() if callable(asked) else getattr(state, "client", None) is not None):
        return None
    pipelines, pipeline = getattr(state, "num_processes", None), getattr(state, "process_id", None)
    if pipelines is None or pipeline is None:
        # These start a backend, if none is; so they are asked only where the private state is not as it was in 0.10.
        pipelines, pipeline = jax.process_count(), jax.process_index()
    return "jax.distributed", int(pipelines), int(pipeline)


def _from_environment(environ: Mapping[str, str]) -> _Found:
    """What the variables of a launcher say."""
    found = _from_tf_config(environ.get("TF_CONFIG", ""))
    if found is not None:
        return found
    for source, rank_name, size_name in _RANKS:
        if source == "Slurm" and _is_slurm_shell(environ):
            continue
        if rank_name in environ and size_name in environ:
            rank, size = (_number(environ, name) for name in (rank_name, size_name))
            if size < 1 or not 0 <= rank < size:
                raise RequestError(
                    f"the variable {rank_name} is {rank}, and {size_name} is {size}",
                    advice=f"{source} sets both, and ranks count from 0",
                )
            return source, size, rank
    return _NOTHING, 1, 0


def _is_slurm_shell(environ: Mapping[str, str]) -> bool:
    # In a script of sbatch, and in a shell of salloc, there is one process, whatever SLURM_NTASKS says, and its
    # SLURM_PROCID is 0. Only srun starts as many as that.
    step = environ.get("SLURM_STEP_ID")
    return "SLURM_JOB_ID" in environ if step is None else step in _SHELL_STEPS


def _number(environ: Mapping[str, str], name: str) -> int:
    try:
        return int(environ[name])
    except ValueError:
        raise RequestError(f"the variable {name} is {environ[name]!r}, which is no number") from None


def _from_tf_config(text: str) -> _Found | None:
    """What TF_CONFIG says; None if that is nothing."""

    def wrong(problem: str, advice: str = "") -> RequestError:
        form = 'As in {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        return RequestError(f"the variable TF_CONFIG {problem}", advice=advice or form)

    if not text.strip():
        return None
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise wrong(f"is no JSON, {error}: {text[:60]!r}") from None
    if not isinstance(config, dict):
        raise wrong(f"is {text[:60]!r}, not an object")
    cluster, task = config.get("cluster"), config.get("task")
    if not cluster and not task:
        return None
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        name, part = ("task", task) if isinstance(cluster, dict) else ("cluster", cluster)
        raise wrong(f"has no {name}" if part is None else f"has the {name} {part!r}, not an object")
    for name in ("type", "index"):
        if name not in task:
            raise wrong(f"has no {name} of the task")
    kind, index = task["type"], task["index"]
    if type(index) is not int and not (isinstance(index, str) and index.isdecimal()):
        raise wrong(f"has the task index {index!r}")
    number = int(index)
    if kind == "evaluator":
        return "TF_CONFIG", 1, 0
    if kind not in _READING_TASKS:
        raise wrong(
            f"says that this is a task of type {kind!r}, which reads no input",
            "Input is read by chief and worker; elsewhere, give the numbers: InputContext(...)",
        )
    counts: dict[str, int] = {}
    for name in _READING_TASKS:
        addresses = cluster.get(name, [])
        if not isinstance(addresses, list | dict):
            raise wrong(f"lists no addresses for {name!r}")
        counts[name] = len(addresses)
    num_chiefs = sum(counts[name] for name in _CHIEFS)
    if num_chiefs > 1:
        raise wrong(f"lists {num_chiefs} chiefs", "There is at most one; a master is one too")
    if not 0 <= number < counts[kind]:
        raise wrong(f"says that this is {kind} {number} of {counts[kind]}", "They count from 0")
    before = sum(counts[name] for name in _READING_TASKS[: _READING_TASKS.index(kind)])
    return "TF_CONFIG", sum(counts.values()), before + number
