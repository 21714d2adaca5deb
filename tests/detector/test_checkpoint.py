"""Fits that are cut short and go on: with the same bits, whatever was interrupted, and however."""

import hashlib
import pickle
import time
import warnings

import numpy as np
import pytest
from conftest import PROCESSES, TINY
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

import skcsflow._checkpoints
from skcsflow import CSFlowDetector, save
from skcsflow.datasets import make_defects

PARAMS = {
    **TINY,
    "n_epochs": 4,
    "batch_size": 4,
    "contamination": "auto",
    "score_mode": "fused",
    "map_mode": "fused",
}


@pytest.fixture(scope="module")
def images():
    return make_defects(n_normal=24, n_defective=0, random_state=0).images


@pytest.fixture
def stops_after(monkeypatch):
    """Have the training stop after so many of its rounds, each of which is saved."""

    def stop_after(n_rounds, error=KeyboardInterrupt):
        saved = []

        def save(self, state, original=skcsflow._checkpoints.Checkpoint.save):
            original(self, state)
            saved.append(self.path)
            if len(saved) == n_rounds:
                raise error

        monkeypatch.setattr(skcsflow._checkpoints, "SAVING_SHARE", np.inf)
        monkeypatch.setattr(skcsflow._checkpoints.Checkpoint, "save", save)
        return saved

    yield stop_after
    monkeypatch.undo()


def assert_alike(detector, expected, images):
    ours, theirs = (d.model_.state_dict() for d in (detector, expected))
    for name, tensor in theirs.items():
        assert ours[name].numpy().tobytes() == tensor.numpy().tobytes(), name
    assert detector.offset_ == expected.offset_
    assert detector.map_threshold_ == expected.map_threshold_
    for name in ("loss", "grad_norm", "learning_rate"):
        np.testing.assert_array_equal(detector.history_[name], expected.history_[name])
    np.testing.assert_array_equal(detector.score_samples(images[:3]), expected.score_samples(images[:3]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pytest.param({"contamination": 0.1, "score_mode": "mean", "map_mode": "max"}, marks=pytest.mark.slow),
    ],
)
def test_an_interrupted_fit_goes_on_with_the_same_bits(images, tmp_path, stops_after, changes):
    expected = CSFlowDetector(**{**PARAMS, **changes}).fit(images)
    detector = CSFlowDetector(**{**PARAMS, **changes}, checkpoint=tmp_path / "new folder")
    stops_after(2)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(images)
    assert not hasattr(detector, "model_")
    (file,) = (tmp_path / "new folder").iterdir()
    before = file.read_bytes()
    saved = stops_after(-1)
    detector.fit(images)
    assert len(saved) == 2  # of four
    assert before
    assert_alike(detector, expected, images)
    assert list((tmp_path / "new folder").iterdir()) == []


@pytest.mark.slow
def test_an_interrupted_fit_leaves_a_fitted_detector_as_it_was(images, tmp_path, stops_after):
    detector = CSFlowDetector(**PARAMS, checkpoint=tmp_path).fit(images[:12])
    before = pickle.dumps(detector)
    stops_after(1)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(images)
    assert pickle.dumps(detector) == before


@pytest.mark.slow
@pytest.mark.parametrize("random_state", [None, "instance"])
def test_without_a_seed_the_training_that_was_cut_short_goes_on(images, tmp_path, stops_after, random_state):
    def detector():
        state = np.random.RandomState(3) if random_state else None
        pretrained = {"backbone": "tf_efficientnet_lite0", "weights": "auto"}  # random weights need a seed
        return CSFlowDetector(**{**PARAMS, **pretrained, "random_state": state}, checkpoint=tmp_path)

    stops_after(3)
    with pytest.raises(KeyboardInterrupt):
        detector().fit(images)
    (file,) = tmp_path.iterdir()
    seed = skcsflow._checkpoints.torch.load(file, weights_only=True)["seed"]
    saved = stops_after(-1)
    detector().fit(images)
    assert len(saved) == 1
    assert isinstance(seed, int)
    # Done: the next one is another training, from its start.
    saved = stops_after(-1)
    detector().fit(images)
    assert len(saved) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "other",
    [{"learning_rate": 1e-3}, {"random_state": 1}, {"n_epochs": 5}, {"input_size": 96}, {"images": 1}],
)
def test_other_trainings_have_files_of_their_own(images, tmp_path, stops_after, other):
    detector = CSFlowDetector(**PARAMS, checkpoint=tmp_path)
    stops_after(1)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(images)
    X = images[other.pop("images", 0) :]
    saved = stops_after(-1)
    changed = clone(detector).set_params(**other).fit(X)
    assert len(saved) == changed.n_epochs
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.slow
def test_warm_start_and_partial_fit_go_on_too(images, tmp_path, stops_after):
    expected = CSFlowDetector(**PARAMS, warm_start=True).fit(images)
    detector = pickle.loads(pickle.dumps(expected)).set_params(checkpoint=tmp_path)
    expected.fit(images)
    stops_after(2)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(images)
    saved = stops_after(-1)
    detector.fit(images)
    assert len(saved) == 2
    assert_alike(detector, expected, images)
    with pytest.warns(UserWarning, match="partial_fit has trained"):
        detector.partial_fit(images[:4])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("n_bytes", [0, 1, 1000, -1000, -1])
def test_a_damaged_checkpoint_is_told_and_the_training_begins_anew(images, tmp_path, stops_after, n_bytes):
    detector = CSFlowDetector(**PARAMS, checkpoint=tmp_path)
    stops_after(1)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(images)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:n_bytes])
    saved = stops_after(-1)
    with pytest.warns(UserWarning, match=rf"The checkpoint '.*{file.name}' is damaged\. The training begins"):
        detector.fit(images)
    assert len(saved) == 4
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_flipped_bit_in_a_checkpoint_is_told(images, tmp_path, stops_after):
    detector = CSFlowDetector(**PARAMS, checkpoint=tmp_path)
    stops_after(1)
    with pytest.raises(KeyboardInterrupt):
        detector.fit(images)
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 64
    file.write_bytes(content)
    with pytest.warns(UserWarning, match=r"The checkpoint .* is damaged"):
        detector.fit(images)


def test_a_checkpoint_that_cannot_be_saved_does_not_end_the_training(images, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(skcsflow._checkpoints.torch, "save", full)
    detector = CSFlowDetector(**{**PARAMS, "n_epochs": 1}, checkpoint=tmp_path)
    with pytest.warns(UserWarning, match=r"can't be saved in checkpoint='.*No space left .*goes on"):
        detector.fit(images)
    assert detector.predict(images[:2]).shape == (2,)
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_must_be_a_folder(images, tmp_path):
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match=r"checkpoint='.*file.*' must be a folder that can be written to"):
            CSFlowDetector(**PARAMS, checkpoint=path).fit(images)


@pytest.mark.slow
def test_fits_of_a_search_share_a_folder(images, tmp_path):
    search = GridSearchCV(
        CSFlowDetector(**{**PARAMS, "n_epochs": 1}, checkpoint=tmp_path),
        {"learning_rate": [1e-3, 1e-2]},
        cv=2,
    )
    search.fit(images)
    assert list(tmp_path.iterdir()) == []


def test_training_is_saved_at_most_a_twentieth_of_the_time(tmp_path):
    checkpoint = skcsflow._checkpoints.Checkpoint(tmp_path, {}, 0)
    assert checkpoint.is_due
    start = time.monotonic()
    checkpoint.save({})
    seconds = time.monotonic() - start
    assert not checkpoint.is_due
    assert checkpoint._next_save <= time.monotonic() + seconds / 0.05


def fit_save_and_digest(images, folder, result):
    warnings.simplefilter("ignore")
    result.send("started")
    detector = CSFlowDetector(input_size=64, n_epochs=5, random_state=0, checkpoint=folder / "state").fit(
        images
    )
    save(detector, folder / "model.joblib")
    digest = hashlib.sha256(
        repr([*detector.history_["loss"], detector.offset_, detector.map_threshold_]).encode()
    )
    digest.update(detector.score_samples(images).tobytes())
    for tensor in detector.model_.state_dict().values():
        digest.update(tensor.numpy().tobytes())
    result.send(digest.hexdigest())


@pytest.mark.slow
def test_fits_that_are_killed_at_30_moments_go_on_with_the_same_bits(images, tmp_path):
    def run(folder, seconds=None):
        folder.mkdir(exist_ok=True)
        receiver, sender = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(target=fit_save_and_digest, args=(images[:12], folder, sender))
        process.start()
        sender.close()
        assert receiver.recv() == "started"
        start = time.monotonic()
        if seconds is not None:
            time.sleep(seconds)
            process.kill()
        try:
            answer = receiver.recv()
        except EOFError:
            answer = None
        process.join()
        return answer, time.monotonic() - start

    run(tmp_path / "first")  # which takes longer
    expected, seconds = run(tmp_path / "never killed")
    rng = np.random.default_rng(0)
    folder = tmp_path / "killed"
    n_resumed = 0
    for _ in range(30):
        answer, _ = run(folder, rng.uniform(0, seconds))
        assert answer in (None, expected)
        n_resumed += any((folder / "state").glob("*.pt"))
        if (folder / "model.joblib").exists():  # whole, whenever the process was killed
            assert skcsflow.load(folder / "model.joblib").offset_
    answer, _ = run(folder)
    assert answer == expected
    assert n_resumed >= 3
