"""Services and watches in processes of their own."""

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import httpx
from PIL import Image

KEY = "a secret of tests"


def png(array):
    """The content of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def wait_until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


class Process:
    """Python code in a process of its own, whose warnings are errors and whose log is kept."""

    def __init__(self, code):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )
        self.log = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            self.log += line

    def wait_for(self, pattern, seconds=60.0):
        wait_until(lambda: re.search(pattern, self.log) or self.process.poll() is not None, seconds)
        found = re.search(pattern, self.log)
        assert found, self.log
        return found

    def end(self, number=signal.SIGTERM):
        """Send a signal, and give the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(30)
        self._reader.join(5)
        self.process.stderr.close()
        return status


@contextmanager
def running_service(detectors, **options):
    """A service; gives its process and its address."""
    sources = {name: os.fspath(path) for name, path in detectors.items()}
    process = Process(f"from skcsflow.serving import serve; serve({sources!r}, port=0, **{options!r})")
    try:
        yield process, process.wait_for(r"running on (http://127\.0\.0\.1:\d+)").group(1)
    finally:
        status = process.end()
    assert status == 0, process.log
    assert "Traceback" not in process.log, process.log


def client(address, **options):
    headers = {"Authorization": f"Bearer {KEY}"}
    return httpx.Client(base_url=address, headers=headers, timeout=30, trust_env=False, **options)


def post(client, content, path="/inspect/calibrated", kind="application/octet-stream", **options):
    return client.post(path, content=content, headers={"Content-Type": kind}, **options)
