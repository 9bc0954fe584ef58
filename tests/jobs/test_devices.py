"""Which device a job gets, and what its process sees of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from surgery.errors import JobError
from surgery.jobs import devices


def test_the_list_can_be_given(monkeypatch):
    monkeypatch.setenv("SURGERY_DEVICES", " sim0, sim1 ,")
    assert devices.devices() == ["sim0", "sim1"]


def test_without_a_sign_of_a_gpu_nobody_is_asked(monkeypatch, tmp_path):
    monkeypatch.delenv("SURGERY_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_accelerated", lambda: False)
    monkeypatch.setattr(devices, "_ask", lambda: pytest.fail("asked"))
    assert devices.devices(tmp_path) == ["cpu"]


def test_torch_is_asked_once(monkeypatch, tmp_path):
    asked = []
    monkeypatch.delenv("SURGERY_DEVICES", raising=False)
    monkeypatch.setattr(devices, "_accelerated", lambda: True)
    monkeypatch.setattr(devices, "_ask", lambda: asked.append(1) or ["cuda:0", "cpu"])
    assert devices.devices(tmp_path) == devices.devices(tmp_path) == ["cuda:0", "cpu"]
    assert len(asked) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    devices.devices(tmp_path)
    assert len(asked) == 2, "another set of visible devices is asked anew"


def test_the_child_names_at_least_the_cpu():
    answer = subprocess.run([sys.executable, "-m", "surgery.jobs.devices"], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout)[-1] == "cpu"


@pytest.mark.parametrize(
    ("wanted", "present", "got"),
    [
        ("", ["cuda:0", "cuda:1", "cpu"], ["cuda:0", "cuda:1"]),
        ("cuda", ["cuda:0", "cuda:1", "cpu"], ["cuda:0", "cuda:1"]),
        ("cuda:1", ["cuda:0", "cuda:1", "cpu"], ["cuda:1"]),
        ("cpu", ["cuda:0", "cpu"], ["cpu"]),
        ("cpu", ["sim0", "sim1"], ["sim0", "sim1"]),
        ("", ["mps", "cpu"], ["mps"]),
    ],
)
def test_who_may_take_a_job(wanted, present, got):
    assert devices.candidates(wanted, present) == got


@pytest.mark.parametrize("wanted", ["cuda:2", "mps", "sim0"])
def test_a_device_that_is_not_there_is_refused(wanted):
    with pytest.raises(JobError, match=f"no device '{wanted}'; it has cuda:0, cpu"):
        devices.candidates(wanted, ["cuda:0", "cpu"])


@pytest.mark.parametrize(
    ("name", "before", "visible", "torch_name"),
    [
        ("cuda:1", None, "1", "cuda:0"),
        ("cuda:1", "4,7", "7", "cuda:0"),
        ("cpu", None, "-1", "cpu"),
        ("sim1", "0", "-1", "cpu"),
        ("mps", None, "-1", "mps"),
    ],
)
def test_a_worker_sees_its_own_gpu_only_and_passes_on_what_it_found(monkeypatch, name, before, visible, torch_name):
    if before is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
    with devices.only(name) as given:
        assert (os.environ["CUDA_VISIBLE_DEVICES"], given) == (visible, torch_name)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"asked": 1}', b'{"devices": 3}'])
def test_a_damaged_memory_of_devices_is_asked_anew(monkeypatch, tmp_path, content):
    (tmp_path / "devices.json").write_bytes(content)
    monkeypatch.setenv("SURGERY_DEVICES", " , ")
    monkeypatch.setattr(devices, "_accelerated", lambda: True)
    monkeypatch.setattr(devices, "_ask", lambda: ["cuda:0", "cpu"])
    assert devices.devices(tmp_path) == ["cuda:0", "cpu"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import time; time.sleep(60)", "it did not answer within 1 s"),
        ("raise RuntimeError('no driver')", "RuntimeError: no driver"),
        ("print('cuda')", "it gave no reason"),
    ],
)
def test_a_torch_that_cannot_tell_its_devices_is_refused_in_words(monkeypatch, code, told):
    real = subprocess.run
    monkeypatch.setattr(devices, "PATIENCE", 1.0)
    monkeypatch.setattr(devices.subprocess, "run", lambda _, **how: real([sys.executable, "-c", code], **how))
    with pytest.raises(JobError, match=f"Asking torch for its devices failed: .*{told}"):
        devices._ask()
