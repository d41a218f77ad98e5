"""Every script of tools/examples, as a user runs it: it trains, prints its accuracy on the test set, and is short."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.laws.data_sets import fresh_directory

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "tools" / "examples"
MAX_LINES = 60
MAX_RUN_S = 120  # of a process; alone the slowest takes about 10
LEAST_ACCURACY = 0.95
NUM_EPOCHS, NUM_EPOCH_STEPS = 20, 23  # 1,440 records in batches of 64


def start(*command: str, **variables: str) -> subprocess.Popen[str]:
    """Python with an environment of its own; a script is named by its file."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3",
        "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", **variables,
    }  # fmt: skip
    words = [str(EXAMPLES / word) if word.endswith(".py") else word for word in command]
    return subprocess.Popen(
        [sys.executable, *words], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def outputs(*processes: subprocess.Popen[str]) -> list[str]:
    """What they print, once all have ended well; none is left behind."""
    try:
        ended = [process.communicate(timeout=MAX_RUN_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, ended, strict=True):
        assert process.returncode == 0, f"{process.args}: {errors[-3000:]}"
    return [output for output, _ in ended]


def run(*command: str, **variables: str) -> str:
    (output,) = outputs(start(*command, **variables))
    return output


def keras(data: str, backend: str) -> str:
    return run("keras_fit.py", "--data", data, KERAS_BACKEND=backend)


def torch_ddp(data: str, own: str) -> str:
    """Two processes, which stop in the middle of an epoch; then one."""
    options = ("torch_ddp.py", "--data", data, "--checkpoint", f"{own}/ddp.pt")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    return run(*launcher, *options, "--stop-after", "130") + run(*options)


def jax(data: str, _: str) -> str:
    """One process with four devices."""
    return run("jax_sharded.py", "--data", data, XLA_FLAGS="--xla_force_host_platform_device_count=4")


def tensorflow(data: str, _: str) -> str:
    """Two workers, which find each other by TF_CONFIG."""
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    addresses = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = [{"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}} for index in range(2)]
    workers = [start("tf_multi_worker.py", "--data", data, TF_CONFIG=json.dumps(task)) for task in tasks]
    return "".join(outputs(*workers))


def grain(data: str, _: str) -> str:
    """Two worker processes."""
    return run("grain_loader.py", "--data", data)


def lightning(data: str, own: str) -> str:
    """Two processes, which stop in the middle of an epoch; then one."""
    options = ("lightning_ddp.py", "--data", data, "--checkpoints", own)
    return run(*options, "--devices", "2", "--stop-after", "130") + run(*options)


def huggingface(data: str, _: str) -> str:
    """Two workers of a DataLoader."""
    return run("huggingface.py", "--data", data)


# What runs, and what it prints besides the accuracy.
RUNS: dict[str, tuple[Callable[[str, str], str], list[str]]] = {
    "keras-jax": (lambda data, _: keras(data, "jax"), ["jax: test accuracy"]),
    "keras-torch": (lambda data, _: keras(data, "torch"), ["torch: test accuracy"]),
    "keras-tensorflow": (lambda data, _: keras(data, "tensorflow"), ["tensorflow: test accuracy"]),
    "torch_ddp": (
        torch_ddp,
        [
            f"resumed after step 130, at {130 % NUM_EPOCH_STEPS * 64} records of its epoch",
            f"1 processes, {NUM_EPOCHS * NUM_EPOCH_STEPS} steps",
        ],
    ),
    "jax_sharded": (jax, ["4 devices"]),
    "tf_multi_worker": (tensorflow, ["2 workers"]),
    "grain_loader": (grain, ["grain: test accuracy"]),
    "lightning_ddp": (lightning, ["130 steps", f"{NUM_EPOCHS * NUM_EPOCH_STEPS} steps"]),
    "huggingface": (huggingface, ["huggingface: test accuracy"]),
}


@pytest.fixture(scope="module")
def printed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[str]]]:
    """What the selected runs print: two of them at a time, in the order of the tests."""
    selected = {item.callspec.params.get("name") for item in request.session.items if hasattr(item, "callspec")}
    with fresh_directory() as directory, ThreadPoolExecutor(2) as pool:
        data = str(directory / "digits")
        yield {
            name: pool.submit(job, data, str(tmp_path_factory.mktemp(name)))
            for name, (job, _) in RUNS.items()
            if name in selected
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.timeout(3 * MAX_RUN_S)
@pytest.mark.parametrize("name", RUNS)
def test_an_example_learns(printed: dict[str, Future[str]], name: str) -> None:
    """What it prints last is over 95 % on the test set; those that stop go on where they stopped."""
    output = printed[name].result()
    accuracies = [float(found) for found in re.findall(r"test accuracy (\d\.\d+)", output)]
    assert accuracies and accuracies[-1] > LEAST_ACCURACY, output
    assert [line for line in RUNS[name][1] if line not in output] == [], output


def test_all_examples_are_run() -> None:
    """Each script by one of the runs, if it is no module of the others."""
    scripts = {path.stem for path in EXAMPLES.glob("*.py")} - {"digits_data"}
    assert scripts == {name.replace("keras-", "keras_fit-").partition("-")[0] for name in RUNS}


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_read_at_a_glance(script: Path) -> None:
    """At most 60 lines, and it says at its top how it is run."""
    lines = script.read_text("utf-8").splitlines()
    assert len(lines) <= MAX_LINES
    assert lines[0].startswith('"""')


@pytest.mark.timeout(MAX_RUN_S + 20)
def test_several_processes_may_make_the_data_set(tmp_path: Path) -> None:
    """At once: all read the same records, and nothing is left of the others' work."""
    code = "import sys, digits_data; print(digits_data.open_digits(sys.argv[1])[0].fingerprint)"
    makers = [
        start("-c", code, str(tmp_path / "digits"), PYTHONPATH=f"{ROOT}:{EXAMPLES}")
        for _ in range(3)
    ]  # fmt: skip
    assert len(set(outputs(*makers))) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["digits"]
