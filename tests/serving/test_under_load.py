"""A service under load: too many requests, detectors that are swapped, and the end."""

import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving_tools import client, noise, post, running_service, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copies(detector_files, tmp_path_factory):
    """Files that tests may change."""
    folder = tmp_path_factory.mktemp("served")
    return {name: shutil.copy(path, folder / path.name) for name, path in detector_files.items()}


@pytest.fixture(scope="module")
def address(copies):
    with running_service(copies, max_waiting=4) as (_, address):
        yield address


def test_too_many_requests_are_told_to_come_again_and_none_is_lost(address, calibrated, file_contents):
    content = file_contents["colour.png"]
    score = calibrated.score_samples([content])[0]
    statuses = []

    def run(_):
        with client(address) as http:
            while True:
                answer = post(http, content)
                statuses.append(answer.status_code)
                if answer.status_code == 200:
                    return answer.json()["score"] == score
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) >= 1
                assert "4 requests are under way" in answer.json()["detail"]
                time.sleep(0.02)

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(run, range(48)))
    assert statuses.count(200) == 48
    assert 503 in statuses


def test_reload_loses_no_request_and_swaps_at_once(
    address, copies, detector_files, calibrated, other, file_contents
):
    content = file_contents["colour.png"]
    old, new = (detector.score_samples([content])[0] for detector in (calibrated, other))
    assert old != new
    ended = threading.Event()
    answers = []

    def run(_):
        with client(address) as http:
            while not ended.is_set():
                sent = time.monotonic()
                answer = post(http, content)
                answers.append((sent, answer.status_code, answer.json().get("score")))

    with client(address) as http, ThreadPoolExecutor(3) as threads:
        runs = [threads.submit(run, k) for k in range(3)]
        wait_until(lambda: len(answers) > 5)
        # One file is damaged: nothing changes.
        copies["other"].write_bytes(b"no detector")
        refused = http.post("/reload")
        assert refused.status_code == 409
        assert "other.joblib" in refused.json()["detail"]
        assert {score for _, _, score in answers} == {old}
        shutil.copy(detector_files["other"], copies["other"])
        # The name calibrated gets what the joblib file holds.
        import skops.io

        skops.io.dump(other, copies["calibrated"])
        reloaded = http.post("/reload")
        swapped = time.monotonic()
        assert reloaded.json() == {"reloaded": ["calibrated", "other"]}
        n = len(answers)
        wait_until(lambda: len(answers) > n + 10)
        ended.set()
        for finished in runs:
            finished.result()
    assert {status for _, status, _ in answers} == {200}
    assert {score for _, _, score in answers} == {old, new}
    assert {score for sent, _, score in answers if sent > swapped} == {new}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_answers_what_is_under_way(copies, calibrated, number):
    # Large enough that most still wait when the signal comes.
    contents = [noise(1500, 1500, k) for k in range(4)]
    with (
        running_service({"calibrated": copies["other"]}) as (process, address),
        ThreadPoolExecutor(16) as threads,
        client(address) as http,
    ):

        def run(k):
            with client(address) as own:
                return post(own, contents[k % 4])

        answers = [threads.submit(run, k) for k in range(16)]
        wait_until(lambda: http.get("/health").json()["under_way"] == 16)
        process.send(number)
        statuses = [a.result().status_code for a in answers]
        assert statuses == [200] * 16
        assert process.wait() == 0
