"""Features are extracted once per image, whoever asks."""

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from conftest import FAST, open_files
from joblib.externals.loky import get_reusable_executor
from PIL import Image
from sklearn.model_selection import GridSearchCV

import skcsflow
from skcsflow import CSFlowDetector, feature_cache_info
from skcsflow._features._cache import CachedFeatures, open_cache
from skcsflow._features._storage import MappedMaps
from skcsflow._images import ImageCollection
from skcsflow._training import FlowTrainer


class CountingDetector(CSFlowDetector):
    """Appends a line to the file $SKCSFLOW_TEST_LOG for every image that goes through the backbone.

    As it counts passes through the network itself, in whatever process, nothing that the cache believes
    of itself can hide one.
    """

    def _new_model(self, size, seed):
        model = super()._new_model(size, seed)
        model.feature_extractor.backbone.register_forward_hook(partial(_count, size))
        return model


def _count(size, module, args, output):
    (images,) = args
    if images.shape[-2:] != size:  # the same image once more, made smaller
        return
    lines = "".join(f"{image.double().sum().item():.17g}\n" for image in images)
    log = os.open(os.environ["SKCSFLOW_TEST_LOG"], os.O_APPEND | os.O_CREAT | os.O_WRONLY)
    os.write(log, lines.encode())
    os.close(log)


@pytest.fixture
def log(tmp_path, monkeypatch):
    path = tmp_path / "log"
    path.touch()
    monkeypatch.setenv("SKCSFLOW_TEST_LOG", str(path))
    get_reusable_executor().shutdown()  # joblib's processes of tests before don't have the variable
    return path


def counted(log):
    lines = log.read_text().splitlines()
    log.write_text("")
    return lines


def entry(value=0.0):
    return CachedFeatures([[np.full((2, 3, 3), value, np.float32)]], (3, 3))


# Keys: what an entry depends on, and what it doesn't


def test_memory_has_each_image_extracted_once_whoever_asks(log, grey_images, tmp_path):
    # 3 threads: too many for groups, which are tried with noise, and counted.
    detector = CountingDetector(**FAST, memory=tmp_path / "cache", n_jobs=3).fit(grey_images[:20])
    assert len(set(counted(log))) == 20
    detector.score_samples(grey_images[10:22][::-1])
    assert len(counted(log)) == 2
    detector.transform(grey_images)
    assert len(counted(log)) == 2
    detector.predict(grey_images)
    detector.calibrate(grey_images[:20], fpr=0.2, cv=2)
    CountingDetector(**{**FAST, "whiten": False}, memory=str(tmp_path / "cache")).fit(grey_images)
    assert counted(log) == []
    assert feature_cache_info(tmp_path / "cache").n_images == 24


def test_memory_has_an_image_extracted_once_that_is_there_several_times(log, grey_images, tmp_path):
    X = np.concatenate([grey_images[:3]] * 5)
    detector = CountingDetector(**FAST, memory=tmp_path, n_jobs=4).fit(X)
    assert len(counted(log)) == 3
    assert len(set(detector.score_samples(X))) == 3


@pytest.mark.slow
def test_memory_key_depends_on_all_that_changes_features(log, grey_images, tmp_path):
    X = grey_images[:4]
    CountingDetector(**FAST, memory=tmp_path).fit(X)
    assert len(counted(log)) == 4
    for changes in (
        {"input_size": 64},
        {"input_size": (32, 64)},
        {"backbone": "test_efficientnet_ln"},
        {"random_state": 1},  # other random weights
        {"precision": "float64"},
        {"precision": "bfloat16"},
    ):
        cached = CountingDetector(**{**FAST, **changes}, memory=tmp_path).fit(X)
        assert len(counted(log)) == 4, changes
        plain = CSFlowDetector(**{**FAST, **changes}).fit(X)
        np.testing.assert_array_equal(cached.score_samples(X), plain.score_samples(X), err_msg=str(changes))


def test_memory_key_does_not_depend_on_the_flow(log, grey_images, tmp_path):
    CountingDetector(**FAST, memory=tmp_path).fit(grey_images[:4])
    counted(log)
    changes = {"n_coupling_blocks": 2, "clamp": 2.0, "whiten": False, "map_mode": "all", "contamination": 0.2}
    changes |= {"score_mode": "fused", "n_jobs": 2, "batch_size": 3}
    CountingDetector(**{**FAST, **changes}, memory=tmp_path).fit(grey_images[:4])
    assert counted(log) == []


def kinds_of(images, folder):
    paths = []
    for i, image in enumerate(images):
        paths.append(folder / f"{i}.png")
        Image.fromarray(image).save(paths[-1])
    return {
        "array": images,
        "list of arrays": list(images),
        "float array": images / 255.0,
        "colour": np.repeat(images[..., None], 3, axis=-1),
        "tensor": torch.from_numpy(images)[:, None],
        "bfloat16 tensor": torch.from_numpy(images / 255.0)[:, None].bfloat16(),
        "pil": [Image.fromarray(image) for image in images],
        "palette": [Image.fromarray(image).convert("P") for image in images],
        "paths": [str(p) for p in paths],
        "pathlib": np.array(paths, dtype=object),
        "rows": images.reshape(len(images), -1),
    }


@pytest.mark.slow
def test_memory_finds_every_kind_of_image_again_with_the_same_bits(log, grey_images, tmp_path):
    plain = CSFlowDetector(**FAST, image_shape=(48, 40)).fit(grey_images[:4])
    detector = CountingDetector(**FAST, image_shape=(48, 40)).fit(grey_images[:4])
    counted(log)
    for kind, X in kinds_of(grey_images[:6], tmp_path).items():
        scores, maps = plain.score_samples(X), plain.transform(X)
        detector.set_params(memory=tmp_path / f"cache of {kind}")
        for expected in (6, 0):
            np.testing.assert_array_equal(detector.score_samples(X), scores, err_msg=kind)
            assert len(counted(log)) == expected, kind
        np.testing.assert_array_equal(detector.transform(X), maps, err_msg=kind)


def test_memory_of_a_file_that_changed_reads_it_again(log, grey_images, tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(grey_images[0]).save(path)
    detector = CountingDetector(**FAST, memory=tmp_path / "cache").fit(grey_images[1:5])
    (first,) = detector.score_samples([path])
    Image.fromarray(grey_images[1]).save(path)
    (second,) = detector.score_samples([path])
    assert len(counted(log)) == 6
    (expected,) = detector.score_samples(grey_images[1:2])
    assert first != second == expected


def test_memory_of_a_file_that_changes_while_it_is_read_keeps_what_was_read(
    grey_images, tmp_path, monkeypatch
):
    path = tmp_path / "a.png"
    Image.fromarray(grey_images[0]).save(path)
    detector = CSFlowDetector(**FAST, memory=tmp_path / "cache").fit(grey_images[1:5])
    (expected,) = detector.score_samples([path])
    digest = ImageCollection.digest

    def digest_and_replace(self, content):
        found = digest(self, content)
        Image.fromarray(grey_images[1]).save(path)
        return found

    joblib.Memory(tmp_path / "cache" / "joblib", verbose=0).clear()
    with monkeypatch.context() as patch:
        patch.setattr(ImageCollection, "digest", digest_and_replace)
        assert detector.score_samples([path]).tolist() == [expected]
    path.unlink()
    with pytest.raises(ValueError, match="no such file"):
        detector.score_samples([path])


def test_memory_in_the_home_folder_is_there(grey_images, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for memory in ("~/one", Path("~/other")):
        CSFlowDetector(**FAST, memory=memory).fit(grey_images[:4])
        assert feature_cache_info(memory).n_images == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]


def test_memory_that_is_a_file_raises(grey_images, tmp_path):
    (tmp_path / "a_file").write_text("text")
    for memory in (tmp_path / "a_file", str(tmp_path / "a_file")):
        with pytest.raises(ValueError, match=r"memory='.*a_file' is a file\. Pass the path of a folder"):
            CSFlowDetector(**FAST, memory=memory).fit(grey_images[:4])


def test_memory_of_joblibs_default_verbosity_prints_nothing(grey_images, tmp_path, capfd):
    CSFlowDetector(**FAST, memory=joblib.Memory(tmp_path)).fit(grey_images[:2])
    assert "".join(capfd.readouterr()) == ""


def test_memory_of_one_array_in_two_shapes_has_two_images(grey_images, tmp_path):
    pixels = np.ascontiguousarray(grey_images[:4, :40, :40]).reshape(4, -1)
    square = CSFlowDetector(**FAST, memory=tmp_path, image_shape=(40, 40)).fit(pixels)
    wide = CSFlowDetector(**FAST, memory=tmp_path, image_shape=(20, 80)).fit(pixels)
    assert feature_cache_info(tmp_path).n_images == 8
    assert not np.array_equal(square.score_samples(pixels), wide.score_samples(pixels))


def test_memory_of_bad_images_raises_as_without_and_keeps_nothing(fitted, grey_images, tmp_path):
    detector = CSFlowDetector(**FAST, memory=tmp_path).fit(grey_images[:4])
    n_images = feature_cache_info(tmp_path).n_images
    nan = np.full((1, 8, 8), np.nan)
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    for X in (nan, np.full((2, 8, 8), 1e38), [tmp_path / "none.png"], [tmp_path / "broken.png"]):
        errors = []
        for one in (fitted, detector, detector):
            with pytest.raises(ValueError, match=r"X\[0\]|X contains") as info:
                one.score_samples(X)
            errors.append(str(info.value))
        assert errors == [errors[0]] * 3
    assert feature_cache_info(tmp_path).n_images == n_images


# What memory may be


def test_memory_may_be_a_folder_or_a_memory(log, grey_images, tmp_path):
    for memory in (tmp_path / "cache", str(tmp_path / "cache")):
        CountingDetector(**FAST, memory=memory).fit(grey_images[:4])
    assert len(counted(log)) == 4
    for _ in range(2):
        CountingDetector(**FAST, memory=joblib.Memory(tmp_path / "other", verbose=0)).fit(grey_images[:4])
    assert len(counted(log)) == 4


@pytest.mark.parametrize("options", [{"mmap_mode": "r"}, {"mmap_mode": "c"}, {"compress": 3}], ids=str)
def test_memory_of_any_options_gives_the_same_bits(grey_images, tmp_path, options):
    X = grey_images[:9]
    expected = CSFlowDetector(**FAST).fit(X).score_samples(X)
    detector = CSFlowDetector(**FAST, memory=joblib.Memory(tmp_path, verbose=0, **options))
    for _ in range(2):
        np.testing.assert_array_equal(detector.fit(X).score_samples(X), expected)


@pytest.mark.parametrize("memory", [None, joblib.Memory(None)], ids=str)
def test_memory_of_nothing_keeps_nothing(memory):
    assert open_cache(memory) is None


@pytest.mark.parametrize("memory", [3, 1.5, [], object()])
def test_memory_of_another_kind_raises(grey_images, memory):
    with pytest.raises(ValueError, match="'memory' parameter"):
        CSFlowDetector(**FAST, memory=memory).fit(grey_images)


def test_memory_of_ones_own_without_a_folder_is_used():
    class Memory:
        kept = {}  # noqa: RUF012

        def cache(self, function, ignore):
            def cached(key, compute):
                if key not in self.kept:
                    self.kept[key] = function(key, compute)
                return self.kept[key]

            return cached

    cache = open_cache(Memory())
    for _ in range(2):
        (found,) = cache.get_or_compute(["aa"], lambda missing: [entry(1.0)])
        assert found.frames[0][0][0, 0, 0] == 1
    assert cache.get("bb") is None


def test_memory_is_kept_as_given_by_params_and_pickle(grey_images, tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    detector = CSFlowDetector(**FAST, memory=memory)
    assert detector.get_params()["memory"] is memory
    loaded = pickle.loads(pickle.dumps(detector.fit(grey_images[:4])))
    assert loaded.memory.location == memory.location


# Size


def test_feature_cache_info_tells_number_and_size_and_can_be_bounded(grey_images, tmp_path):
    assert feature_cache_info(tmp_path) == (0, 0)
    detector = CSFlowDetector(**FAST, memory=tmp_path).fit(grey_images)
    info = feature_cache_info(joblib.Memory(tmp_path, verbose=0))
    on_disk = sum(p.stat().st_size for p in tmp_path.rglob("*.pkl"))
    assert info.n_images == 24
    assert on_disk <= info.n_bytes <= on_disk + 40 * 1000
    scores = detector.score_samples(grey_images)
    joblib.Memory(tmp_path, verbose=0).reduce_size(bytes_limit=info.n_bytes // 2)
    reduced = feature_cache_info(tmp_path)
    assert 10 <= reduced.n_images <= 20
    assert reduced.n_bytes <= info.n_bytes // 2
    np.testing.assert_array_equal(detector.score_samples(grey_images), scores)
    assert feature_cache_info(tmp_path).n_images == 24


def test_feature_cache_info_counts_nothing_else_that_a_memory_holds(grey_images, tmp_path):
    memory = joblib.Memory(tmp_path, verbose=0)
    memory.cache(np.cumsum)(np.arange(5))
    assert feature_cache_info(memory) == (0, 0)
    CSFlowDetector(**FAST, memory=memory).fit(grey_images[:3])
    assert feature_cache_info(memory).n_images == 3


@pytest.mark.parametrize("memory", [None, 3, joblib.Memory(None)], ids=str)
def test_feature_cache_info_of_no_folder_raises(memory):
    with pytest.raises(ValueError, match="memory must be a folder"):
        feature_cache_info(memory)


# Training features in mapped files

CONFIGURATIONS = [
    {"n_epochs": 2},
    {"whiten": False, "precision": "float64"},
    {"precision": "bfloat16", "input_size": 32, "batch_size": 100},
    {"backbone": "test_efficientnet_ln", "input_size": (96, 70), "batch_size": 5},
]


@pytest.fixture
def mapped(monkeypatch):
    """Numbers of rows that were read from mapped files."""
    counts = []
    take = MappedMaps.__getitem__

    def take_and_count(self, rows):
        taken = take(self, rows)
        counts.append(1 if taken.ndim == 3 else len(taken))
        return taken

    monkeypatch.setattr(MappedMaps, "__getitem__", take_and_count)
    return counts


def assert_same_bits(detector, expected, images):
    assert detector.offset_ == expected.offset_
    for name in ("loss", "grad_norm"):
        np.testing.assert_array_equal(detector.history_[name], expected.history_[name])
    for value, other in zip(
        detector.model_.state_dict().values(), expected.model_.state_dict().values(), strict=True
    ):
        assert torch.equal(value, other)
    np.testing.assert_array_equal(detector.score_samples(images), expected.score_samples(images))


@pytest.mark.slow
@pytest.mark.parametrize("changes", CONFIGURATIONS, ids=str)
def test_fit_from_mapped_files_gives_the_same_bits(many_images, tmp_path, mapped, changes):
    params = {**FAST, "input_size": 64, **changes}
    X = many_images[:33]  # one more than are whitened together
    expected = CSFlowDetector(**params).fit(X)
    assert mapped == []
    detector = CSFlowDetector(**params, memory=tmp_path).fit(X)
    # By each scale: training, its two probes, scores, and the whitening's statistics.
    n_passes = params["n_epochs"] + 3 + params.get("whiten", True)
    assert sum(mapped) == len(params["strides"]) * 33 * n_passes
    assert_same_bits(detector, expected, many_images[:5])


@pytest.mark.parametrize("how", ["warm_start", "partial_fit"])
def test_further_training_from_mapped_files_gives_the_same_bits(grey_images, tmp_path, mapped, how):
    expected, detector = CSFlowDetector(**FAST), CSFlowDetector(**FAST, memory=tmp_path)
    for one in (expected, detector):
        one.set_params(warm_start=how == "warm_start")
        for X in (grey_images[:9], grey_images[5:12]):
            one.partial_fit(X) if how == "partial_fit" else one.fit(X)
    assert mapped
    assert_same_bits(detector, expected, grey_images[:5])


def test_fit_from_mapped_files_leaves_out_the_rows_that_y_does(grey_images, tmp_path):
    X = grey_images[:12]
    y = np.where(np.arange(12) % 3, 1, -1)
    expected = CSFlowDetector(**FAST).fit(X[y == 1])
    detector = CSFlowDetector(**FAST, memory=tmp_path).fit(X, y)
    assert_same_bits(detector, expected, grey_images[:5])


@pytest.mark.parametrize("memory", ["none", "no folder"])
def test_fit_without_a_folder_holds_features_in_memory(grey_images, mapped, memory):
    detector = CSFlowDetector(**FAST, memory=None if memory == "none" else joblib.Memory(None))
    detector.fit(grey_images[:4])
    assert mapped == []


@pytest.mark.parametrize("end", ["done", "image", "divergence", "interrupt"])
def test_fit_from_mapped_files_at_any_end_leaves_no_file(grey_images, tmp_path, monkeypatch, end):
    X = list(grey_images[:20])
    detector = CSFlowDetector(**FAST, memory=tmp_path)
    kept_error = None
    if end == "image":
        X[15] = np.full((48, 40), np.nan)
    elif end == "divergence":
        detector.set_params(learning_rate=1e30)
    elif end == "interrupt":

        def interrupt(*args):
            raise KeyboardInterrupt

        monkeypatch.setattr(FlowTrainer, "_train_step", interrupt)
    try:
        detector.fit(X)
    except (ValueError, KeyboardInterrupt) as error:
        kept_error = error
    assert (kept_error is None) == (end == "done")
    assert {p.name for p in tmp_path.iterdir()} <= {"joblib", "skcsflow-locks", ".gitignore"}
    assert all("deleted" not in file for file in open_files(tmp_path))


# Several at a time


def test_memory_asked_by_threads_at_once_computes_once(tmp_path):
    computed = []
    meeting = threading.Barrier(8)

    def ask():
        cache = open_cache(tmp_path)
        meeting.wait()
        for i in range(20):
            key = f"{i:032x}"

            def compute(missing, i=i):
                computed.append(i)
                time.sleep(0.002)
                return [entry(i) for _ in missing]

            (found,) = cache.get_or_compute([key], compute)
            assert found.frames[0][0][0, 0, 0] == i

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(computed) == list(range(20))


def test_memory_asked_for_overlapping_batches_does_not_hang(tmp_path):
    keys = [f"{i:032x}" for i in range(12)]
    computed = []

    def ask(mine):
        cache = open_cache(tmp_path)

        def compute(missing):
            time.sleep(0.01)
            computed.extend(mine[i] for i in missing)
            return [entry(int(mine[i], 16)) for i in missing]

        found = cache.get_or_compute(mine, compute)
        assert [f.frames[0][0][0, 0, 0] for f in found] == [int(key, 16) for key in mine]

    halves = [keys[:8], keys[4:][::-1], keys[::2], keys[::-1]]
    threads = [threading.Thread(target=ask, args=(mine,), daemon=True) for mine in halves]
    for t in threads:
        t.start()
    for t in threads:
        t.join(timeout=60)
        assert not t.is_alive()
    assert sorted(computed) == keys


def _fill(folder, start):
    cache = open_cache(folder)
    start.wait()
    for i in range(30):
        cache.get_or_compute([f"{i:032x}"], lambda missing, i=i: [_logged(folder, i)])


def _logged(folder, i):
    with open(folder / f"computed-{i}-{os.getpid()}", "x"):
        return entry(i)


@pytest.mark.slow
def test_memory_asked_by_processes_at_once_computes_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Event()
    processes = [context.Process(target=_fill, args=(tmp_path, start)) for _ in range(3)]
    for p in processes:
        p.start()
    start.set()
    for p in processes:
        p.join(timeout=120)
        assert p.exitcode == 0
    assert len(list(tmp_path.glob("computed-*"))) == 30


WRITER = """
import os, sys, threading, time, types
for name, path in (("skcsflow", sys.argv[1]), ("skcsflow._features", sys.argv[1] + "/_features")):
    sys.modules[name] = types.ModuleType(name)  # without torch, whose import takes seconds
    sys.modules[name].__path__ = [path]
from pathlib import Path
import numpy as np
from skcsflow._features._cache import CachedFeatures, open_cache
cache = open_cache(sys.argv[2])
def hang(*args):
    os.write(1, b"now\\n")  # print's line and its end may come apart
    time.sleep(600)
def compute(missing):
    return [CachedFeatures([[np.zeros((2, 3, 3), np.float32)]], (3, 3))]
Path.replace = hang
threading.Thread(target=cache.get_or_compute, args=(["00"], hang)).start()
cache.get_or_compute(["01"], compute)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_memory_of_a_writer_killed_while_computing_or_writing_has_no_lock_and_no_half_entry(tmp_path):
    folder = tmp_path / "cache"
    package = str(Path(skcsflow.__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, package, folder], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert [writer.stdout.readline() for _ in range(2)] == ["now\n"] * 2
        finally:
            writer.send_signal(signal.SIGKILL)
    cache = open_cache(folder)
    assert feature_cache_info(folder).n_images == 0
    for key in ("00", "01"):
        assert cache.get(key) is None
        (found,) = cache.get_or_compute([key], lambda missing: [entry(7)])
        assert found.frames[0][0][0, 0, 0] == cache.get(key).frames[0][0][0, 0, 0] == 7


# Damage, and folders that can't be written to


def entries_in(folder):
    return sorted(folder.rglob("output.pkl"))


def damage(path, how):
    content = path.read_bytes()
    path.unlink()
    if how == "flipped bit":
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    elif how == "truncated":
        path.write_bytes(content[:100])
    elif how == "empty":
        path.touch()
    elif how == "another object":
        joblib.dump({"an": "object"}, path)


@pytest.mark.parametrize("how", ["flipped bit", "truncated", "empty", "another object"])
def test_memory_with_damaged_entries_computes_them_anew_and_warns_once(
    grey_images, tmp_path, log, capfd, how
):
    X = grey_images[:4]
    detector = CountingDetector(**FAST, memory=tmp_path).fit(X)
    scores = detector.score_samples(X)
    counted(log)
    for path in entries_in(tmp_path)[:3]:
        damage(path, how)
    message = r"The feature cache memory='.*' had 3 damaged entries\."
    with pytest.warns(UserWarning, match=message) as caught:
        np.testing.assert_array_equal(detector.score_samples(X), scores)
    assert [w.filename for w in caught] == [__file__]
    assert len(counted(log)) == 3
    assert "".join(capfd.readouterr()) == ""
    np.testing.assert_array_equal(detector.score_samples(X), scores)
    assert counted(log) == []


def test_fit_with_damaged_entries_warns_once_at_the_users_line(grey_images, tmp_path):
    detector = CSFlowDetector(**FAST, memory=tmp_path).fit(grey_images[:4])
    offset = detector.offset_
    for path in entries_in(tmp_path):
        damage(path, "flipped bit")
    with pytest.warns(UserWarning, match="had 4 damaged entries") as caught:
        detector.fit(grey_images[:4])
    assert [w.filename for w in caught if "damaged" in str(w.message)] == [__file__]
    assert detector.offset_ == offset


def test_no_flipped_bit_of_an_entry_goes_unnoticed(tmp_path):
    cache = open_cache(tmp_path)
    key = "ab" * 16
    cache.get_or_compute([key], lambda missing: [entry(1.5)])
    (path,) = entries_in(tmp_path)
    content = path.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert cache.get(key) is None, bit
        assert not path.exists()
    path.write_bytes(content)
    assert cache.get(key).frames[0][0][0, 0, 0] == 1.5


def test_memory_of_ones_own_with_a_damaged_entry_computes_it_anew():
    class Memory:
        def cache(self, function, ignore):
            return lambda key, compute: "anything"

    cache = open_cache(Memory())
    (found,) = cache.get_or_compute(["aa"], lambda missing: [entry(1.0)])
    assert found.frames[0][0][0, 0, 0] == 1
    with pytest.warns(UserWarning, match="had 1 damaged entry"):
        cache.warn()


READER = """
import os, pickle, sys, warnings
import numpy as np
import torch
from sklearn.base import clone
from skcsflow import feature_cache_info
detector, images, scores = pickle.load(open(sys.argv[1], "rb"))
if sys.argv[3] == "nobody":
    with warnings.catch_warnings(action="ignore"):  # imports what it needs, which other users may not be able to read
        clone(detector).fit(images[:4]).score_samples(images[:1])
    os.setuid(65534)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    detector.set_params(memory=sys.argv[2])
    assert (detector.score_samples(images[:4]) == scores[:4]).all()
    assert not caught, [str(w.message) for w in caught]
    assert (detector.score_samples(images) == scores).all()
    (warning,) = caught
    assert "features of 3 images could not be kept in memory" in str(warning.message), warning.message
    assert warning.filename == "<string>"
    detector.fit(images[:4])
assert sum("kept" in str(warning.message) for warning in caught) == 1
assert feature_cache_info(sys.argv[2]).n_images == 4
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the permissions of Linux")
def test_memory_in_a_folder_that_cannot_be_written_to_is_read(grey_images):
    with tempfile.TemporaryDirectory() as parent:  # pytest's own folders can't be entered by other users
        Path(parent).chmod(0o755)
        folder = Path(parent, "cache")
        detector = CSFlowDetector(**FAST, memory=folder).fit(grey_images[:4])
        scores = detector.set_params(memory=None).score_samples(grey_images[:7])
        given = Path(parent, "all.pkl")
        given.write_bytes(pickle.dumps((detector, grey_images[:7], scores)))
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        user = "nobody" if os.getuid() == 0 else "self"  # root may write anywhere
        command = [sys.executable, "-c", READER, given, folder, user]
        # What measures coverage writes files, which the other user may not.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def test_memory_in_a_folder_without_features_that_cannot_be_written_to_raises(tmp_path):
    (tmp_path / "skcsflow-locks").write_text("a file where a folder should be")
    with pytest.raises(OSError, match=r"memory='.*' can't be written to: "):
        open_cache(tmp_path)


# Searches


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_memory_in_a_search_has_each_image_extracted_once_and_the_same_bits(
    log, grey_images, tmp_path, n_jobs
):
    grid = {"n_coupling_blocks": [1, 2], "clamp": [2.0, 3.0]}
    params = {**FAST, "n_jobs": 3}  # too many for groups, whose trial would be counted
    results = []
    for memory, count in ((None, None), (tmp_path / "cache", 24), (tmp_path / "cache", 0)):
        search = GridSearchCV(
            CountingDetector(**params, memory=memory), grid, cv=2, n_jobs=n_jobs, refit=False
        )
        results.append(search.fit(grey_images).cv_results_)
        lines = counted(log)
        if count is None:
            assert len(lines) == 4 * 2 * 24
        else:
            assert len(lines) == count
    for name in results[0]:
        if "score" in name and "time" not in name:
            for other in results[1:]:
                np.testing.assert_array_equal(other[name], results[0][name])
