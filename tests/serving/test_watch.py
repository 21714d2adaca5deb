"""A watch over a folder that a line drops files into."""

import io
import json
import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from serving_tools import Process, noise, wait_until

from skcsflow.serving import watch


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def lines(output):
    path = output / "results.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def drop(folder, name, content):
    """Write under another name, and rename."""
    (folder / f"{name}.part").write_bytes(content)
    os.replace(folder / f"{name}.part", folder / name)


@contextmanager
def watching(detector, folder, output, **options):
    """A watch in a thread."""
    stop, results = threading.Event(), []
    thread = threading.Thread(
        target=lambda: results.append(
            watch(detector, folder, output, stop=stop, **{"settle": 0.1, **options})
        )
    )
    thread.start()
    try:
        yield results
    finally:
        stop.set()
        thread.join(20)
    assert results, "the watch has failed"


@pytest.fixture
def start(detector_files, folders):
    """Starts watches in processes of their own."""
    started = []

    def start(**options):
        started.append(Process("watch", detector_files["calibrated"], *folders, **{"settle": 0.1, **options}))
        return started[-1]

    yield start
    for process in started:
        process.remove()


@pytest.mark.slow
def test_lines_have_the_bits_of_the_detector(calibrated, file_contents, folders):
    folder, output = folders
    names = sorted(file_contents)
    for name in names[:4]:  # there before the watch
        drop(folder, name, file_contents[name])
    seen = []
    with watching(calibrated, folder, output, on_result=seen.append):
        wait_until(lambda: len(lines(output)) == 4)
        for name in names[4:]:
            drop(folder, name, file_contents[name])
        wait_until(lambda: len(lines(output)) == len(names))
    found = {line["file"]: line for line in lines(output)}
    assert sorted(found) == names
    assert json.loads(json.dumps(seen)) == lines(output)
    for name, content in file_contents.items():
        line = found[name]
        (inspection,) = calibrated.inspect([content])
        assert line["score"] == calibrated.score_samples([content])[0]
        assert line["p_value"] == calibrated.p_values([content])[0]
        assert line["label"] == calibrated.predict([content])[0]
        assert line["threshold"] == calibrated.offset_
        assert line["size"] == len(content)
        assert [tuple(r["bbox"]) for r in line["regions"]] == [r.bbox for r in inspection.regions]
        assert [r["peak"] for r in line["regions"]] == [r.peak for r in inspection.regions]


@pytest.mark.slow
def test_slow_copies_are_read_when_they_are_whole(calibrated, file_contents, folders):
    """Written in pieces, with pauses almost as long as a file must be at rest, and one that is far longer."""
    folder, output = folders
    contents = {"a.png": file_contents["colour.png"], "b.jpeg": file_contents["large.jpeg"]}

    def write(name, content):
        with (folder / name).open("wb", buffering=0) as file:
            for k in range(10):
                file.write(content[k * len(content) // 10 : (k + 1) * len(content) // 10])
                time.sleep(0.8 if k == 5 else 0.15)

    with watching(calibrated, folder, output, settle=0.3):
        writers = [threading.Thread(target=write, args=item) for item in contents.items()]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert lines(output) == []
        wait_until(lambda: len(lines(output)) == 2)
        time.sleep(0.5)
    scores = {line["file"]: line.get("score") for line in lines(output)}
    assert scores == {name: calibrated.score_samples([content])[0] for name, content in contents.items()}
    assert len(lines(output)) == 2


def test_files_that_cannot_be_read_have_an_error_and_the_watch_goes_on(calibrated, file_contents, folders):
    folder, output = folders
    bad = {"cut.png": file_contents["colour.png"][:-2000], "text.png": b"text", "empty.jpg": b""}
    with watching(calibrated, folder, output, settle=0.05):
        for name, content in bad.items():
            drop(folder, name, content)
        wait_until(lambda: len(lines(output)) == 3)
        drop(folder, "good.png", file_contents["colour.png"])
        wait_until(lambda: len(lines(output)) == 4)
        drop(folder, "cut.png", file_contents["colour.png"])  # mended: a new image
        wait_until(lambda: len(lines(output)) == 5)
    found = lines(output)
    assert {line["file"] for line in found[:3]} == bad.keys()
    assert all("could not be read" in line["error"] and "score" not in line for line in found[:3])
    assert [line["file"] for line in found[3:]] == ["good.png", "cut.png"]
    assert (
        found[3]["score"] == found[4]["score"] == calibrated.score_samples([file_contents["colour.png"]])[0]
    )


def test_only_images_are_taken_and_folders_where_asked(calibrated, file_contents, folders):
    folder, output = folders
    content = file_contents["grey.png"]
    with watching(calibrated, folder, output, recursive=True, settle=0):
        (folder / "left").mkdir()
        for name in (".hidden.png", "notes.txt", "a.png.tmp", "left/.b.png"):
            (folder / name).write_bytes(content)
        drop(folder, "left/b.PNG", content)
        drop(folder, "c.png", content)
        wait_until(lambda: len(lines(output)) == 2)
    assert {line["file"] for line in lines(output)} == {"left/b.PNG", "c.png"}
    drop(folder, "d.png", content)
    with watching(calibrated, folder, output, settle=0):
        wait_until(lambda: len(lines(output)) == 3)
    assert lines(output)[2]["file"] == "d.png"


def test_pictures_show_the_mask(calibrated, file_contents, folders):
    folder, output = folders
    names = ["defect.png", "16.png", "a.npy"]
    for name in names:
        drop(folder, name, file_contents[name])
    with watching(calibrated, folder, output, masks=True, overlays=True):
        wait_until(lambda: len(lines(output)) == 3)
    for name in names:
        (found,) = calibrated.inspect([file_contents[name]])
        mask = np.asarray(Image.open(output / "masks" / f"{name}.png"))
        np.testing.assert_array_equal(mask, found.mask * 255)
        overlay = np.asarray(Image.open(output / "overlays" / f"{name}.png"))
        red = (overlay == (255, 0, 0)).all(axis=2)
        assert red.any() == found.mask.any()
        assert not (red & found.mask).any()
        if name == "defect.png":
            pixels = np.asarray(Image.open(io.BytesIO(file_contents[name])))
            np.testing.assert_array_equal(overlay[~red], np.repeat(pixels[~red][:, None], 3, axis=1))
            assert red.any()


def test_two_watches_do_not_write_to_one_folder(calibrated, folders):
    folder, output = folders
    with watching(calibrated, folder, output):
        wait_until((output / "results.jsonl").exists)
        with pytest.raises(ValueError, match="another watch"):
            watch(calibrated, folder, output)


@pytest.mark.parametrize("text", ["file,score\n", "notes", '{"name": 1}\n', '{"file": 1}\n', "[1]\n"])
def test_file_of_results_that_a_watch_has_not_written_is_left_alone(calibrated, folders, text):
    folder, output = folders
    output.mkdir()
    (output / "results.jsonl").write_text(text)
    with pytest.raises(ValueError, match=r"results\.jsonl' has a line 1"):
        watch(calibrated, folder, output)
    assert (output / "results.jsonl").read_text() == text


@pytest.mark.parametrize("kept", [4, 40, None], ids=["4 bytes", "40 bytes", "all but the end"])
def test_unfinished_line_is_written_anew(calibrated, file_contents, folders, kept):
    folder, output = folders
    for name in ("a.png", "b.png"):
        drop(folder, name, file_contents["grey.png"])
    with watching(calibrated, folder, output):
        wait_until(lambda: len(lines(output)) == 2)
    path = output / "results.jsonl"
    before = lines(output)
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(first + b"\n" + second[:kept])
    with watching(calibrated, folder, output) as results:
        wait_until(lambda: len(lines(output)) == 2)
    assert results == [1]
    for line in (found := lines(output)) + before:
        line.pop("time")
    assert found == before


@pytest.mark.slow
def test_kills_in_the_middle_lose_nothing_and_do_nothing_twice(calibrated, start, folders):
    folder, output = folders
    contents = {f"{k:03}.png": noise(40 + k, 50, k) for k in range(120)}
    n_kills = 3
    for name in list(contents)[:60]:
        drop(folder, name, contents[name])
    for kill in range(n_kills):
        watched = start(masks=True)
        n = len(lines(output))
        wait_until(lambda n=n: len(lines(output)) > n + 5, 60)  # while it is at it
        watched.end(signal.SIGKILL)
        for name in list(contents)[60 + 20 * kill : 80 + 20 * kill]:  # come while nobody watches
            drop(folder, name, contents[name])
    assert len(lines(output)) < len(contents)
    watched = start(masks=True)
    wait_until(lambda: len(lines(output)) == len(contents))
    assert watched.end(signal.SIGTERM) == 0, watched.log
    assert "returned " in watched.log
    found = lines(output)
    assert sorted(line["file"] for line in found) == sorted(contents)
    scores = {line["file"]: line["score"] for line in found}
    np.testing.assert_array_equal(
        [scores[n] for n in contents], calibrated.score_samples(list(contents.values()))
    )
    assert {path.name for path in (output / "masks").iterdir() if path.name[0] != "."} == {
        f"{n}.png" for n in contents
    }


@pytest.mark.slow
def test_ctrl_c_ends_the_watch_cleanly(start, file_contents, folders):
    folder, output = folders
    drop(folder, "a.png", file_contents["grey.png"])
    watched = start()
    wait_until(lambda: len(lines(output)) == 1)
    assert watched.end(signal.SIGINT) == 0, watched.log
    assert watched.log == "returned 1\n"
