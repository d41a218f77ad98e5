"""Input contexts: the three numbers, and who is asked for them (spec/order.md, section 6)."""

from __future__ import annotations

import copy
import json
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recordio.distributed.context import InputContext, _from_environment, as_input_context
from recordio.errors import RequestError

ROOT = Path(__file__).parents[2]
NOTHING = "nothing: one process"
LAUNCHERS = {
    "TF_CONFIG", "RANK", "WORLD_SIZE", "SLURM_JOB_ID", "SLURM_PROCID", "SLURM_NTASKS", "SLURM_STEP_ID",
    "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE",
}  # fmt: skip
TORCHRUN = {"RANK": "2", "WORLD_SIZE": "4"}
SRUN = {"SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "3"}
MPIRUN = {"OMPI_COMM_WORLD_RANK": "4", "OMPI_COMM_WORLD_SIZE": "5"}


def tf_config(cluster: Any, task: Any) -> dict[str, str]:
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def task(kind: str, index: Any) -> dict[str, Any]:
    return {"type": kind, "index": index}


WORKERS = {"worker": ["a:1", "b:1", "c:1"]}
FULL = {"chief": ["a:1"], **WORKERS, "ps": ["d:1", "e:1"], "evaluator": ["f:1"]}


def numbers(context: InputContext) -> tuple[int, int, int]:
    return context.num_input_pipelines, context.input_pipeline_id, context.num_replicas_in_sync


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    """Tests may themselves be started by a launcher."""
    for name in LAUNCHERS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_framework(monkeypatch):
    """As in a process that imported none, whatever other tests did in this one."""
    for name in ("torch", "jax", "jax._src.distributed"):
        monkeypatch.delitem(sys.modules, name, raising=False)


# The three numbers


@pytest.mark.parametrize(("given_numbers", "num_local_replicas"), [
    ((), 1),
    ((2, 1, 2), 1),
    ((2, 0, 8), 4),
    ((1, 0, 3), 3),
    ((np.int64(2), np.uint8(1), np.int32(4)), 2),
])  # fmt: skip
def test_every_pipeline_feeds_the_same_number_of_replicas(given_numbers, num_local_replicas):
    """P, the number of this one and R are as given, as plain ints; each pipeline feeds R / P."""
    context = InputContext(*given_numbers)
    assert numbers(context) == (tuple(given_numbers) or (1, 0, 1))
    assert context.num_local_replicas == num_local_replicas
    assert {type(number) for number in numbers(context)} == {int}
    assert context.detected_from == "arguments"


@pytest.mark.parametrize(("given_numbers", "message"), [
    ((0, 0, 1), "num_input_pipelines 0 is below 1"),
    ((-1, 0, 1), "num_input_pipelines -1 is below 1"),
    ((2, -1, 2), "input_pipeline_id -1 is below 0"),
    ((2, 2, 2), "input_pipeline_id 2 of num_input_pipelines 2"),
    ((1, 0, 0), "num_replicas_in_sync 0 is below 1"),
    ((2, 0, 1), "num_replicas_in_sync 1 is no multiple of num_input_pipelines 2"),
    ((2, 0, 3), "num_replicas_in_sync 3 is no multiple of num_input_pipelines 2"),
])  # fmt: skip
def test_numbers_that_cannot_be_are_refused(given_numbers, message):
    """A RequestError, which is a ValueError, with the values found."""
    with pytest.raises(RequestError) as caught:
        InputContext(*given_numbers)
    assert caught.value.message == message


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("value", [True, np.True_, 1.0, "1", None, [1]])
def test_a_number_of_another_type_is_a_type_error(place, value):
    """Neither a bool nor a float passes for an int, and the message names the argument."""
    name = ("num_input_pipelines", "input_pipeline_id", "num_replicas_in_sync")[place]
    arguments: list[Any] = [1, 0, 1]
    arguments[place] = value
    with pytest.raises(TypeError, match=f"^{name} is an int, not "):
        InputContext(*arguments)


@given(replicas=st.integers(1, 50), size=st.integers(0, 2000))
def test_a_batch_size_is_divided_or_refused(replicas, size):
    """The parts of all replicas make up the global batch; a ValueError where they cannot be equal."""
    context = InputContext(1, 0, replicas)
    try:
        part = context.get_per_replica_batch_size(size)
    except ValueError as error:
        assert size % replicas
        assert f"global_batch_size {size} is not divisible by num_replicas_in_sync {replicas}" in str(error)
    else:
        assert part * replicas == size


@pytest.mark.parametrize("size", [True, 8.0, "8", None])
def test_a_batch_size_that_is_no_int_is_a_type_error(size):
    with pytest.raises(TypeError, match=r"^global_batch_size is an int, not "):
        InputContext().get_per_replica_batch_size(size)


def test_a_context_cannot_be_changed():
    """Workers hold copies of it: none may come to differ."""
    context = InputContext(2, 1, 2)
    for name in ("num_input_pipelines", "input_pipeline_id", "num_replicas_in_sync", "num_local_replicas",
                 "detected_from", "anything"):  # fmt: skip
        with pytest.raises(AttributeError):
            setattr(context, name, 1)


def test_contexts_are_equal_if_their_numbers_are():
    """Where the numbers come from does not count."""
    context = InputContext(2, 1, 4)
    same = InputContext.detect(2, 1, 4)
    assert context == same and hash(context) == hash(same)
    assert len({context, InputContext(2, 0, 4), InputContext(2, 1, 2), InputContext(4, 1, 4), same}) == 4
    assert context != (2, 1, 4)


@pytest.mark.parametrize("environ", [{}, TORCHRUN])
def test_a_copy_knows_where_its_numbers_come_from(environ, monkeypatch, no_framework):
    """Contexts go to worker processes."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    context = InputContext.detect()
    for copied in (pickle.loads(pickle.dumps(context)), copy.copy(context), copy.deepcopy(context)):
        assert (copied, copied.detected_from) == (context, context.detected_from)


def test_repr_says_where_the_numbers_come_from(monkeypatch, no_framework):
    shown = "InputContext(num_input_pipelines=4, input_pipeline_id=2, num_replicas_in_sync=4)"
    assert repr(InputContext(4, 2, 4)) == shown
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert repr(InputContext.detect()) == f"{shown} from torchrun"


# Contexts of others


def test_whatever_has_the_three_numbers_is_a_context():
    """A tf.distribute.InputContext is one; ours passes as it is."""
    context = InputContext(4, 2, 8)
    other = SimpleNamespace(num_input_pipelines=4, input_pipeline_id=2, num_replicas_in_sync=8)
    assert as_input_context(context) is context
    assert as_input_context(other) == context


def test_a_foreign_context_whose_replicas_cannot_be_divided_is_refused():
    """TensorFlow checks nothing: a context of 2 pipelines may have 3 replicas, or 1, the default."""
    other = SimpleNamespace(num_input_pipelines=2, input_pipeline_id=0, num_replicas_in_sync=1)
    with pytest.raises(RequestError, match="no multiple"):
        as_input_context(other)


@pytest.mark.parametrize("value", [None, 2, (2, 0, 2), {}, SimpleNamespace(num_input_pipelines=2)])
def test_what_lacks_the_numbers_is_no_context(value):
    with pytest.raises(TypeError, match=r"^context is an InputContext, not "):
        as_input_context(value)


# The environment


@pytest.mark.parametrize(("environ", "expected"), [
    ({}, (NOTHING, 1, 0)),
    ({"PATH": "/bin"}, (NOTHING, 1, 0)),
    (tf_config(WORKERS, task("worker", 0)), ("TF_CONFIG", 3, 0)),
    (tf_config(WORKERS, task("worker", 2)), ("TF_CONFIG", 3, 2)),
    (tf_config(WORKERS, task("worker", "2")), ("TF_CONFIG", 3, 2)),         # as some launchers write it
    (tf_config(FULL, task("chief", 0)), ("TF_CONFIG", 4, 0)),               # the chief comes first
    (tf_config(FULL, task("worker", 0)), ("TF_CONFIG", 4, 1)),
    (tf_config(FULL, task("worker", 2)), ("TF_CONFIG", 4, 3)),
    (tf_config(FULL, task("evaluator", 0)), ("TF_CONFIG", 1, 0)),           # reads alone
    (tf_config(WORKERS, task("evaluator", 0)), ("TF_CONFIG", 1, 0)),        # and need not be listed
    (tf_config({"master": ["a:1"], **WORKERS}, task("master", 0)), ("TF_CONFIG", 4, 0)),
    (tf_config({"master": ["a:1"], **WORKERS}, task("worker", 1)), ("TF_CONFIG", 4, 2)),
    (tf_config({"worker": {"0": "a:1", "1": "b:1"}}, task("worker", 1)), ("TF_CONFIG", 2, 1)),
    (tf_config({"chief": ["a:1"]}, task("chief", 0)), ("TF_CONFIG", 1, 0)),
    ({"TF_CONFIG": ""}, (NOTHING, 1, 0)),
    ({"TF_CONFIG": " \n"}, (NOTHING, 1, 0)),
    ({"TF_CONFIG": "{}"}, (NOTHING, 1, 0)),
    ({"TF_CONFIG": '{"environment": "cloud"}'}, (NOTHING, 1, 0)),
    (TORCHRUN, ("torchrun", 4, 2)),
    ({"RANK": "0", "WORLD_SIZE": "1"}, ("torchrun", 1, 0)),
    ({"RANK": "2"}, (NOTHING, 1, 0)),                                       # a name that anybody may use
    ({"WORLD_SIZE": "4"}, (NOTHING, 1, 0)),
    (SRUN, ("Slurm", 3, 1)),
    ({"SLURM_PROCID": "1", "SLURM_NTASKS": "3"}, ("Slurm", 3, 1)),          # a container that keeps these alone
    ({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "3"}, (NOTHING, 1, 0)),         # a shell of salloc
    ({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "3", "SLURM_PROCID": "0"}, (NOTHING, 1, 0)),    # a script of sbatch
    ({**SRUN, "SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"}, (NOTHING, 1, 0)),        # an interactive step
    (MPIRUN, ("OpenMPI", 5, 4)),
    ({"OMPI_COMM_WORLD_RANK": "4"}, (NOTHING, 1, 0)),
])  # fmt: skip
def test_a_launcher_says_which_pipeline_this_is(environ, expected):
    """The variables of TensorFlow, torchrun, srun and mpirun, and none that only look alike."""
    assert _from_environment(environ) == expected


@pytest.mark.parametrize(("environ", "expected"), [
    (tf_config(WORKERS, task("worker", 1)) | TORCHRUN | SRUN | MPIRUN, "TF_CONFIG"),
    ({"TF_CONFIG": "{}"} | TORCHRUN | SRUN | MPIRUN, "torchrun"),           # says nothing
    (TORCHRUN | SRUN | MPIRUN, "torchrun"),
    (SRUN | MPIRUN, "OpenMPI"),                                              # mpirun starts its daemons with srun
    ({"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_NTASKS": "5"} | MPIRUN, "OpenMPI"),     # mpirun in a script
])  # fmt: skip
def test_the_first_launcher_that_knows_is_believed(environ, expected):
    """They are not compared: torchrun inside of srun has its own numbers."""
    assert _from_environment(environ)[0] == expected


@pytest.mark.parametrize(("environ", "message"), [
    ({"RANK": "x", "WORLD_SIZE": "4"}, "the variable RANK is 'x', which is no number"),
    ({"RANK": "", "WORLD_SIZE": "4"}, "the variable RANK is '', which is no number"),
    ({"RANK": "0", "WORLD_SIZE": "2.0"}, "the variable WORLD_SIZE is '2.0', which is no number"),
    ({"RANK": "4", "WORLD_SIZE": "4"}, "the variable RANK is 4, and WORLD_SIZE is 4"),
    ({"RANK": "-1", "WORLD_SIZE": "4"}, "the variable RANK is -1, and WORLD_SIZE is 4"),
    ({"RANK": "0", "WORLD_SIZE": "0"}, "the variable RANK is 0, and WORLD_SIZE is 0"),
    (SRUN | {"SLURM_PROCID": "3"}, "the variable SLURM_PROCID is 3, and SLURM_NTASKS is 3"),
    (SRUN | {"SLURM_NTASKS": "all"}, "the variable SLURM_NTASKS is 'all', which is no number"),
    (MPIRUN | {"OMPI_COMM_WORLD_RANK": "5"},
     "the variable OMPI_COMM_WORLD_RANK is 5, and OMPI_COMM_WORLD_SIZE is 5"),
    (MPIRUN | {"OMPI_COMM_WORLD_SIZE": "?"}, "the variable OMPI_COMM_WORLD_SIZE is '?', which is no number"),
])  # fmt: skip
def test_a_variable_that_cannot_be_is_named_with_its_value(environ, message):
    """To read everything, or another pipeline's part, would go unnoticed."""
    with pytest.raises(RequestError) as caught:
        _from_environment(environ)
    assert caught.value.message == message


@pytest.mark.parametrize(("environ", "problem"), [
    ({"TF_CONFIG": "{'cluster'"}, "is no JSON, "),
    ({"TF_CONFIG": "[" * 100_000}, "is no JSON, "),
    ({"TF_CONFIG": "[1]"}, "is '[1]', not an object"),
    ({"TF_CONFIG": "null"}, "is 'null', not an object"),
    ({"TF_CONFIG": json.dumps({"task": task("worker", 0)})}, "has no cluster"),
    ({"TF_CONFIG": json.dumps({"cluster": WORKERS})}, "has no task"),
    (tf_config(["a:1"], task("worker", 0)), "has the cluster ['a:1'], not an object"),
    (tf_config(WORKERS, "worker"), "has the task 'worker', not an object"),
    (tf_config(WORKERS, {"index": 0}), "has no type of the task"),
    (tf_config(WORKERS, {"type": "worker"}), "has no index of the task"),      # else all would be pipeline 0
    (tf_config(WORKERS, task("worker", "first")), "has the task index 'first'"),
    (tf_config(WORKERS, task("worker", True)), "has the task index True"),
    (tf_config(WORKERS, task("worker", 1.0)), "has the task index 1.0"),
    (tf_config(WORKERS, task("worker", None)), "has the task index None"),
    (tf_config(WORKERS, task("worker", -1)), "says that this is worker -1 of 3"),
    (tf_config(WORKERS, task("worker", 3)), "says that this is worker 3 of 3"),
    (tf_config(WORKERS, task("chief", 0)), "says that this is chief 0 of 0"),
    (tf_config({}, task("worker", 0)), "says that this is worker 0 of 0"),
    (tf_config({"worker": "a:1"}, task("worker", 0)), "lists no addresses for 'worker'"),
    (tf_config({"chief": ["a:1", "b:1"]}, task("chief", 0)), "lists 2 chiefs"),
    (tf_config({"chief": ["a:1"], "master": ["b:1"]}, task("chief", 0)), "lists 2 chiefs"),
    (tf_config(FULL, task("ps", 0)), "says that this is a task of type 'ps', which reads no input"),
    (tf_config(FULL, task("wroker", 0)), "says that this is a task of type 'wroker', which reads no input"),
    (tf_config(FULL, {"type": ["worker"], "index": 0}),
     "says that this is a task of type ['worker'], which reads no input"),
])  # fmt: skip
def test_a_tf_config_that_cannot_be_says_what_is_wrong(environ, problem):
    """It is never passed over for the next launcher: the processes of a cluster would each read everything."""
    with pytest.raises(RequestError) as caught:
        _from_environment(environ | TORCHRUN)
    assert caught.value.message.startswith(f"the variable TF_CONFIG {problem}")
    assert caught.value.advice


# Detection


def fake_torch(*, is_available: bool = True, is_initialized: bool = True) -> SimpleNamespace:
    distributed = SimpleNamespace(is_available=lambda: is_available)
    if is_available:
        distributed.is_initialized = lambda: is_initialized
        distributed.get_world_size, distributed.get_rank = lambda: 6, lambda: 5
    return SimpleNamespace(distributed=distributed)


def refused() -> int:
    raise AssertionError("this starts a backend")


def fake_jax(monkeypatch: pytest.MonkeyPatch, *, client: object, knows: bool = True, moved: bool = False) -> None:
    """Put a jax there: one that `knows` whether it is initialised, one whose private state has `moved`."""
    count, index = ((lambda: 8), (lambda: 7)) if moved else (refused, refused)
    distributed = SimpleNamespace(is_initialized=lambda: client is not None) if knows else SimpleNamespace()
    jax = SimpleNamespace(distributed=distributed, process_count=count, process_index=index)
    state = SimpleNamespace(client=client, num_processes=8, process_id=7)
    monkeypatch.setitem(sys.modules, "jax", jax)
    if not moved:
        monkeypatch.setitem(sys.modules, "jax._src.distributed", SimpleNamespace(global_state=state))


def test_without_a_launcher_there_is_one_pipeline(no_framework):
    context = InputContext.detect()
    assert (numbers(context), context.detected_from) == ((1, 0, 1), NOTHING)


def test_arguments_are_believed_before_anything_else(monkeypatch):
    """Nothing else is asked, not even a variable that cannot be."""
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    monkeypatch.setenv("TF_CONFIG", "nonsense")
    context = InputContext.detect(3, 1, 6)
    assert (numbers(context), context.detected_from) == ((3, 1, 6), "arguments")
    assert numbers(InputContext.detect(num_input_pipelines=3, input_pipeline_id=1)) == (3, 1, 3)


@pytest.mark.parametrize("name", ["num_input_pipelines", "input_pipeline_id"])
def test_half_of_the_arguments_is_an_error(name):
    """The other half would be a guess."""
    with pytest.raises(RequestError, match=f"{name} is given alone"):
        InputContext.detect(**{name: 1})


def test_arguments_of_detect_are_checked_like_those_of_a_context():
    with pytest.raises(RequestError, match="input_pipeline_id 3 of num_input_pipelines 3"):
        InputContext.detect(3, 3)
    with pytest.raises(TypeError, match="input_pipeline_id is an int"):
        InputContext.detect(3, "0")  # type: ignore[arg-type]


def test_an_initialised_torch_is_believed_before_jax_and_launchers(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    fake_jax(monkeypatch, client=object())
    monkeypatch.setenv("TF_CONFIG", "nonsense")
    context = InputContext.detect()
    assert (numbers(context), context.detected_from) == ((6, 5, 6), "torch.distributed")


@pytest.mark.parametrize("torch", [
    None,                                   # its import was forbidden
    SimpleNamespace(),                      # its import has not ended
    fake_torch(is_available=False),         # built without distributed
    fake_torch(is_initialized=False),
])  # fmt: skip
def test_a_torch_that_is_not_initialised_is_passed_over(torch, monkeypatch, no_framework):
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert InputContext.detect().detected_from == NOTHING


@pytest.mark.parametrize("shape", [{}, {"knows": False}, {"moved": True}])
def test_an_initialised_jax_is_believed_before_launchers(shape, monkeypatch, no_framework):
    """Its state is read; jax.process_index(), which starts a backend, is the last resort."""
    fake_jax(monkeypatch, client=object(), **shape)
    monkeypatch.setenv("TF_CONFIG", "nonsense")
    context = InputContext.detect()
    assert (numbers(context), context.detected_from) == ((8, 7, 8), "jax.distributed")


@pytest.mark.parametrize("knows", [False, True])
def test_a_jax_that_is_not_initialised_is_passed_over(knows, monkeypatch, no_framework):
    fake_jax(monkeypatch, client=None, knows=knows)
    assert InputContext.detect().detected_from == NOTHING


def test_the_number_of_replicas_may_be_said_alone(monkeypatch, no_framework):
    """A launcher knows processes, not model copies: one for each pipeline unless said otherwise."""
    assert numbers(InputContext.detect(num_replicas_in_sync=4)) == (1, 0, 4)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert numbers(InputContext.detect()) == (4, 2, 4)
    assert numbers(InputContext.detect(num_replicas_in_sync=8)) == (4, 2, 8)
    with pytest.raises(RequestError, match="num_replicas_in_sync 6 is no multiple"):
        InputContext.detect(num_replicas_in_sync=6)


# Real processes

REPORT = """
import json, sys
from recordio.distributed.context import InputContext
context = InputContext.detect()
print(json.dumps([context.detected_from, context.num_input_pipelines, context.input_pipeline_id]), flush=True)
"""
NO_FRAMEWORK = """
assert not {"torch", "jax", "tensorflow"}.intersection(sys.modules)
"""
TORCH = """
import datetime, sys
import torch.distributed
where, rank = sys.argv[1:]
torch.distributed.init_process_group(
    "gloo", init_method=f"file://{where}", rank=int(rank), world_size=2, timeout=datetime.timedelta(seconds=60))
"""
TORCH_END = """
torch.distributed.barrier()
torch.distributed.destroy_process_group()
"""
JAX = """
import sys
import jax
where, rank = sys.argv[1:]
jax.distributed.initialize(where, 2, int(rank), initialization_timeout=60, cluster_detection_method="deactivate")
"""
JAX_END = """
from jax._src import xla_bridge
assert not xla_bridge.backends_are_initialized()
jax.distributed.shutdown()
"""


def run_together(code: str, arguments: Sequence[Sequence[str]], environs: Sequence[dict[str, str]]) -> list[Any]:
    """What processes that run at the same time print, as JSON; none outlives the call."""
    ours = {name: value for name, value in os.environ.items() if name not in LAUNCHERS}
    processes = []
    try:
        for own, environ in zip(arguments, environs, strict=True):
            processes.append(subprocess.Popen(
                [sys.executable, "-c", code, *own], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env={**ours, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environ},
            ))  # fmt: skip
        outputs = [process.communicate(timeout=55) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(out.splitlines()[-1]) for out, _ in outputs]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.parametrize(("source", "environs"), [
    ("torchrun", [{"RANK": str(rank), "WORLD_SIZE": "2"} for rank in range(2)]),
    ("TF_CONFIG", [tf_config({"worker": ["a:1", "b:1"]}, task("worker", index)) for index in range(2)]),
    ("TF_CONFIG", [tf_config({"chief": ["a:1"], "worker": ["b:1"]}, task(kind, 0)) for kind in ("chief", "worker")]),
])  # fmt: skip
def test_launched_processes_find_themselves(source, environs):
    """Each from its own variables, and no framework is imported for it."""
    assert run_together(REPORT + NO_FRAMEWORK, [(), ()], environs) == [[source, 2, 0], [source, 2, 1]]


@pytest.mark.framework
def test_processes_of_torch_distributed_find_themselves(tmp_path):
    """A process group of gloo is asked, and not the variables, which say something else."""
    pytest.importorskip("torch")
    arguments = [(str(tmp_path / "group"), str(rank)) for rank in range(2)]
    found = run_together(TORCH + REPORT + TORCH_END, arguments, [TORCHRUN] * 2)
    assert found == [["torch.distributed", 2, 0], ["torch.distributed", 2, 1]]


@pytest.mark.framework
def test_processes_of_jax_distributed_find_themselves():
    """The coordinator's client is asked, and not the variables; no backend is started by that."""
    pytest.importorskip("jax")
    arguments = [(f"127.0.0.1:{free_port()}",)] * 2
    own = [(*both, str(rank)) for rank, both in enumerate(arguments)]
    found = run_together(JAX + REPORT + JAX_END, own, [TORCHRUN] * 2)
    assert found == [["jax.distributed", 2, 0], ["jax.distributed", 2, 1]]
