"""Services and watches in processes of their own, and their clients."""

import io
import os
import re
import signal
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from conftest import PROCESSES
from PIL import Image

KEY = "a secret of tests"


def png(array):
    """The content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def noise(height, width, seed=0):
    """The content of a PNG file that shows noise."""
    return png(np.random.RandomState(seed).randint(0, 255, (height, width), np.uint8))


def wait_until(condition, seconds=60.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def _run(name, log, args, options):
    """Call a function of skcsflow.serving, with warnings as errors; what it gives and all errors go to the log."""
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    warnings.simplefilter("error")
    import skcsflow.serving

    returned = getattr(skcsflow.serving, name)(*args, **options)
    sys.stderr.write(f"returned {returned}\n")


class Process:
    """A function of skcsflow.serving in a process of its own."""

    def __init__(self, name, *args, **options):
        handle, log = tempfile.mkstemp(suffix=".log")
        os.close(handle)
        self._log = Path(log)
        self._process = PROCESSES.Process(target=_run, args=(name, log, args, options), daemon=True)
        self._process.start()

    @property
    def log(self):
        return self._log.read_text()

    def wait_for(self, pattern):
        wait_until(lambda: re.search(pattern, self.log) or self._process.exitcode is not None)
        found = re.search(pattern, self.log)
        assert found, self.log
        return found

    def send(self, number):
        os.kill(self._process.pid, number)

    def wait(self):
        """Exit status."""
        self._process.join(30)
        return self._process.exitcode

    def end(self, number=signal.SIGTERM):
        """Send a signal, and give the exit status."""
        if self._process.exitcode is None:
            self.send(number)
        return self.wait()

    def remove(self):
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
        self._process.close()
        self._log.unlink()


@contextmanager
def running_service(detectors, **options):
    """A service; gives its process and its address."""
    process = Process("serve", dict(detectors), port=0, **options)
    try:
        yield process, process.wait_for(r"running on (http://127\.0\.0\.1:\d+)").group(1)
        assert process.end() == 0, process.log
        assert "Traceback" not in process.log, process.log
        assert "returned None" in process.log
    finally:
        process.remove()


def client(address, **options):
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False, **options)


def post(client, content, path="/inspect/calibrated", kind="application/octet-stream", **options):
    return client.post(path, content=content, headers={"Content-Type": kind}, **options)
