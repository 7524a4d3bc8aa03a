"""Two hosts with two devices each give what one host with four gives."""

import os
import socket
import subprocess
import sys

import numpy as np

from jaxpolicy.data.formats import rlds_writer
from jaxpolicy.training import loop
from tests.training import fixtures, train_on_host

TIMEOUT_S = 300


def free_port():
    with socket.socket() as s:
        s.bind(("localhost", 0))
        return s.getsockname()[1]


def write_dataset(workdir):
    rlds_writer.write(workdir / "dataset", iter(fixtures.source()), fixtures.spec(), "tiny")


def start(workdir, port, host):
    flags = os.environ["XLA_FLAGS"].replace("device_count=8", "device_count=2")
    env = os.environ | {"PYTHONPATH": os.getcwd(), "XLA_FLAGS": flags}
    arguments = [str(workdir), str(port), str(host), "2"]
    command = [sys.executable, "-m", "tests.training.train_on_host", *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_two_hosts_agree_with_one(tmp_path):
    for name in ("one", "two"):
        write_dataset(tmp_path / name)
    port = free_port()
    processes = [start(tmp_path / "two", port, host) for host in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, output.decode()
    config = fixtures.change(train_on_host.settings(), "loop", devices=4)
    expected = fixtures.leaves(loop.fit(config, tmp_path / "one").params)
    for host in range(2):
        with np.load(tmp_path / "two" / f"host_{host}.npz") as found:
            fixtures.assert_close([found[k] for k in found.files], expected, 1e-5)
