"""Everything that takes a GPU, by one command: its tests, and how near speed comes to what the GPU can do.

    python -m benchmarks.gpu [--only PART ...] [--again] [--minutes 8] [--copy FOLDER] [--dry-run]

Each part runs in a process of its own, with a time limit; one that fails is recorded with its message, and the others
run. Results are written to ``benchmarks/results/gpu.json`` part by part, under the device's name, and into FOLDER
too. A part whose result for this device is there is skipped, unless ``--again`` is given; the same command goes
on after an interruption. No part begins once the minutes are over. ``--dry-run`` tries all parts on the CPU with tiny
sizes, and writes nothing. Networks have random weights and images are noise: neither makes a difference to the time.

- tests: those marked ``gpu``, in ``tests/gpu``.
- peaks: TFLOP/s of a product of large matrices in each precision, and GB/s of a copy, read and written.
- paper: `PAPER_PARAMS` on 209 images of 768 x 768 pixels. Three epochs are measured, and 240 extrapolated: all that is
  done once, the first epoch, and 239 times the median of the later ones. "features" is a second extraction, warm. "of
  the floor" is the time that counted operations would take at the measured peak of the precision, over the time taken.
- scoring: `score_samples` of arrays of bytes, for images a second and for one image, with the default network on
  images of 256 x 256 pixels and with the paper's on 768 x 768. Beside it the network alone: features and flow of
  a batch of floats that lies on the GPU already, 64 images (16 of the paper's) and as many as the package takes
  together, and replays of the package's CUDA graphs. "of the network alone" is the ratio of images a second to the best
  of the three.
- default fit: of 96 images of 256 x 256 pixels, the first in its process and the second.
- anomalib: its torch model on the same kind of images, from bytes to scores and maps, where it is installed.

Kernels are chosen as the package chooses them, in the network alone too: with results that repeat bit for bit.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch

from benchmarks._floor import Peak, count_work, measure_peak, seconds_of
from benchmarks._report import RESULTS, environment, print_table, write
from benchmarks._resume import source_digest
from skcsflow import PAPER_PARAMS, CSFlowDetector
from skcsflow._compute import RecordedFunction, autocast, backbone_layout, cuda_kernels
from skcsflow._features import extract_features
from skcsflow._images import check_images
from skcsflow.nn import CSFlowLoss

ROOT = Path(__file__).parent.parent
NAME = "gpu"
PRECISIONS = ("float32", "tf32", "bfloat16")
PAPER_EPOCHS = 240
Figures = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What is measured: everything on a GPU, or a trial on the CPU."""

    device_name: str = "cuda"
    default: dict[str, Any] = field(default_factory=lambda: {"weights": None, "input_size": 256})
    paper: dict[str, Any] = field(default_factory=lambda: {**PAPER_PARAMS, "weights": None})
    n_paper: int = 209
    n_epochs: int = 3
    n_scored: tuple[int, int] = (512, 48)
    """Images that are scored with the default network, and with the paper's."""
    n_fit: int = 96
    n_resident: int = 64
    repeats: int = 5
    n_latencies: int = 30
    hidden_of_anomalib: int = 1024

    @property
    def device(self) -> torch.device:
        """Where to compute."""
        return torch.device(self.device_name)

    @property
    def sizes(self) -> tuple[int, int]:
        """Height of the images for the default network, and for the paper's; their width is the same."""
        return self.default["input_size"], self.paper["input_size"]

    def precision(self, name: str) -> str:
        """The precision of that name, or what stands in for it on the CPU."""
        return "float32" if name == "tf32" and self.device.type == "cpu" else name


TINY = {"backbone": "test_efficientnet", "weights": None, "cross_conv_hidden_channels": 8}
TRIAL = Job(
    device_name="cpu",
    default={**TINY, "input_size": 64, "n_epochs": 2},
    paper={**PAPER_PARAMS, **TINY, "input_size": 96},
    n_paper=6,
    n_scored=(4, 2),
    n_fit=6,
    n_resident=2,
    repeats=1,
    n_latencies=1,
    hidden_of_anomalib=8,
)


def noise_images(n: int, size: int) -> np.ndarray:
    """Noise, uint8 of shape (n, size, size, 3)."""
    return np.random.default_rng(0).integers(0, 256, (n, size, size, 3), dtype=np.uint8)


def new_detector(job: Job, **params: Any) -> CSFlowDetector:
    """A detector on the job's device."""
    return CSFlowDetector(**{**params, "device": job.device, "random_state": 0})


# The parts


def run_tests(job: Job) -> Figures:
    """The tests that need a GPU; without one they are skipped."""
    with TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
        if find_spec("xdist") is not None:
            # pytest-benchmark, where it is installed, warns of it, and warnings are errors here.
            command += ["-n", "2" if job.device.type == "cpu" else "4", "-p", "no:benchmark"]
        code = subprocess.run([*command, f"--junitxml={report}", "tests/gpu"], cwd=ROOT).returncode
        if code not in (0, 1):  # all passed, or some failed
            raise RuntimeError(f"pytest ended with exit code {code}")
        cases = list(ElementTree.parse(report).iter("testcase"))
    failures = {}
    for case in cases:
        for outcome in (*case.findall("failure"), *case.findall("error")):
            failures[case.get("name", "")] = outcome.get("message", "")[:600]
    n_skipped = sum(case.find("skipped") is not None for case in cases)
    n_passed = len(cases) - n_skipped - len(failures)
    return {"passed": n_passed, "failed": len(failures), "skipped": n_skipped, "failures": failures}


def peak_of(job: Job, name: str) -> Peak:
    """Of a precision. For this process TF32 stays as it is set here."""
    precision = job.precision(name)
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    try:
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        return measure_peak(dtype, device=job.device)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = False
        if job.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()


def measure_peaks(job: Job) -> Figures:
    """Of all precisions."""
    peaks = {name: peak_of(job, name) for name in PRECISIONS}
    return {
        **{f"{name}, TFLOP/s": peak.flops / 1e12 for name, peak in peaks.items()},
        "copy, GB/s": max(peak.bandwidth for peak in peaks.values()) / 1e9,
    }


def fit_paper(job: Job, name: str) -> Figures:
    """The paper's configuration in one precision."""
    precision = job.precision(name)
    peak = peak_of(job, name)
    images = noise_images(job.n_paper, job.sizes[1])
    detector = new_detector(job, **{**job.paper, "precision": precision, "n_epochs": job.n_epochs})
    fit_seconds = seconds_of(lambda: detector.fit(images), job.device)
    first, *later = detector.history_["seconds"].tolist()
    once = fit_seconds - first - sum(later)
    feature_seconds = seconds_of(partial(extract_all, detector, images), job.device)
    of_features, of_step = count_paper(job, detector)
    return {
        "images": job.n_paper,
        "fit s": fit_seconds,
        "features s": feature_seconds,
        "once s": once,
        "first epoch s": first,
        "later epoch s": median(later),
        "240 epochs s": once + first + (PAPER_EPOCHS - 1) * median(later),
        "features, GFLOP an image": of_features / 1e9,
        "step, GFLOP an image": of_step / 1e9,
        "peak, TFLOP/s": peak.flops / 1e12,
        "features of the floor": job.n_paper * of_features / peak.flops / feature_seconds,
        "later epoch of the floor": job.n_paper * of_step / peak.flops / median(later),
        **peak_memory(job),
    }


def extract_all(detector: CSFlowDetector, images: np.ndarray) -> None:
    """Extract features of images, and forget them."""
    collection = check_images(images, 3)
    rows = np.arange(len(images))
    threads = torch.get_num_threads()
    for _ in extract_features(detector._current_runner(), collection, rows, n_threads=threads):
        pass


def count_paper(job: Job, detector: CSFlowDetector) -> tuple[float, float]:
    """Operations of one image's features, and of its training step."""
    model = detector.model_
    image = torch.rand(1, 3, *model.input_size, device=job.device)
    with torch.no_grad():
        features = model.feature_extractor(image)
        of_features = count_work(lambda: model.feature_extractor(image), model.feature_extractor)
    of_step = count_work(lambda: CSFlowLoss()(*model.flow(features)).backward(), model.flow)
    model.flow.zero_grad(set_to_none=True)
    return of_features.flops, of_step.flops


def score(job: Job, which: int) -> Figures:
    """Score with the default network (0) or the paper's (1), in each precision."""
    params = (job.default, job.paper)[which]
    if which == 1:  # a hundred times the work: less of it will do
        job = replace(
            job,
            n_resident=min(job.n_resident, 16),
            repeats=min(job.repeats, 3),
            n_latencies=min(job.n_latencies, 10),
        )
    images = noise_images(job.n_scored[which], job.sizes[which])
    detector = new_detector(job, **{**params, "precision": "float32", "n_epochs": 1}).fit(images[:4])
    figures: Figures = {"images": len(images)}
    for name in PRECISIONS:
        detector.precision_ = job.precision(
            name
        )  # not by another fit: the weights are float32 in all of them
        found = score_in_precision(job, detector, images)
        figures |= {f"{name}: {what}": value for what, value in found.items()}
    return {**figures, **peak_memory(job)}


def score_in_precision(job: Job, detector: CSFlowDetector, images: np.ndarray) -> Figures:
    """Images a second and milliseconds for one, from bytes and of the network alone."""
    for n in (len(images), 1):  # kernels are loaded and chosen
        detector.score_samples(images[:n])
    seconds = [seconds_of(lambda: detector.score_samples(images), job.device) for _ in range(job.repeats)]
    latencies = [
        seconds_of(lambda: detector.score_samples(images[:1]), job.device) for _ in range(job.n_latencies)
    ]
    speed = len(images) / median(seconds)
    runner = detector._current_runner()
    own = runner._batch_size if job.device.type == "cuda" else 1
    alone = {f"{n} images": speed_alone(job, detector, n, len(images)) for n in sorted({own, job.n_resident})}
    graphs = [p.value._graph for p in runner._prepared.values() if isinstance(p.value, RecordedFunction)]
    if all(graphs) and graphs:
        replay = sum(
            median([seconds_of(graph.replay, job.device) for _ in range(job.repeats)]) for graph in graphs
        )
        alone[f"{own} images, recorded"] = own / replay
    return {
        "images/s": speed,
        "one image ms": 1000 * median(latencies),
        **{f"network alone, {n}, images/s": found for n, found in alone.items()},
        "of the network alone": speed / max(alone.values()),
    }


@torch.inference_mode()
def speed_alone(job: Job, detector: CSFlowDetector, batch_size: int, n_images: int) -> float:
    """Images a second of features and flow, of a batch that lies on the device."""
    model, precision = detector.model_, detector.precision_
    batch = torch.rand(batch_size, 3, *model.input_size, device=job.device)
    batch = batch.contiguous(memory_format=backbone_layout(job.device))
    n_batches = -(-n_images // batch_size)

    def run() -> None:
        for _ in range(n_batches):
            features = model.feature_extractor(batch)
            model.flow([f.contiguous(memory_format=torch.channels_last) for f in features])

    with cuda_kernels(job.device, precision), autocast(job.device, precision):
        run()
        seconds = [seconds_of(run, job.device) for _ in range(job.repeats)]
    return n_batches * batch_size / median(seconds)


def fit_default(job: Job) -> Figures:
    """Twice, with default parameters."""
    images = noise_images(job.n_fit, job.sizes[0])
    figures: Figures = {"images": job.n_fit}
    for name in ("first", "second"):
        detector = new_detector(job, **job.default)
        figures[f"{name} fit s"] = seconds_of(partial(detector.fit, images), job.device)
        figures[f"{name} fit, epochs s"] = float(detector.history_["seconds"].sum())
        figures["precision"] = detector.precision_
    return {**figures, **peak_memory(job)}


def score_by_anomalib(job: Job) -> Figures:
    """Time anomalib's torch model, from bytes to scores and maps on the CPU; it prepares images on the GPU."""
    if find_spec("anomalib") is None:
        return {"note": "anomalib is not installed here"}
    from benchmarks._data import ANOMALIB_BATCH_SIZE
    from benchmarks._peers import anomalib_csflow, anomalib_prepare

    figures: Figures = {}
    for size, n_images in zip(job.sizes, job.n_scored, strict=True):
        size = max(size, 128)  # for less, its flow can't be built
        images = noise_images(n_images, size)
        model = anomalib_csflow(size, job.hidden_of_anomalib).to(job.device)

        def run(n: int, batch_size: int, model: Any = model, images: np.ndarray = images) -> None:
            for i in range(0, n, batch_size):
                batch = anomalib_prepare(images[i : min(i + batch_size, n)], images.shape[1], job.device)
                found = model(batch)
                found.pred_score.cpu(), found.anomaly_map.cpu()

        for name in PRECISIONS:
            precision = job.precision(name)
            torch.backends.cudnn.allow_tf32 = precision == "tf32"
            with torch.inference_mode(), autocast(job.device, precision):
                for n in (n_images, 1):
                    run(n, ANOMALIB_BATCH_SIZE)
                seconds = [
                    seconds_of(partial(run, n_images, ANOMALIB_BATCH_SIZE), job.device)
                    for _ in range(job.repeats)
                ]
                latencies = [seconds_of(partial(run, 1, 1), job.device) for _ in range(job.n_latencies)]
            figures[f"{size} px, {name}: images/s"] = n_images / median(seconds)
            figures[f"{size} px, {name}: one image ms"] = 1000 * median(latencies)
    return figures


def peak_memory(job: Job) -> Figures:
    """Most memory of the GPU that tensors have taken in this process."""
    return {"memory GB": torch.cuda.max_memory_allocated() / 1e9} if job.device.type == "cuda" else {}


@dataclass(frozen=True)
class Part:
    """What measures, and the seconds that it may take."""

    measure: Callable[[Job], Figures]
    limit: int


PARTS = {
    "tests": Part(run_tests, 180),
    "peaks": Part(measure_peaks, 60),
    **{f"paper, {name}": Part(partial(fit_paper, name=name), 150) for name in PRECISIONS},
    "scoring, default": Part(partial(score, which=0), 100),
    "scoring, paper": Part(partial(score, which=1), 180),
    "default fit": Part(fit_default, 60),
    "anomalib": Part(score_by_anomalib, 100),
}


# Running them


def run_part(name: str, limit: float, is_trial: bool) -> Figures:
    """Run a part in a process of its own: ``{"result": ...}`` or ``{"error": ...}``."""
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, "-m", "benchmarks.gpu", "--part", name, "--answer", str(answer)]
        variables = dict(os.environ)
        if is_trial:
            command.append("--dry-run")
            variables["OMP_NUM_THREADS"] = "1"  # threads wait for each other where others compute
        # With all that it starts, it can be ended by the number of its session.
        process = subprocess.Popen(command, cwd=ROOT, env=variables, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            return {"error": f"took longer than {limit:.0f} s"}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        if answer.exists():
            return json.loads(answer.read_text())
        return {"error": f"ended with exit code {code} and without a result"}


def serve(name: str, answer: Path, job: Job) -> None:
    """Measure one part in this process, and write what came of it."""
    try:
        found = {"result": PARTS[name].measure(job)}
    except Exception as error:
        traceback.print_exc()
        found = {"error": f"{type(error).__name__}: {error}"}
    answer.write_text(json.dumps(found))


def load() -> dict[str, dict[str, Any]]:
    """What has been measured so far: device -> part -> entry."""
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text())["results"] if path.exists() else {}


def record(device: str, part: str, entry: dict[str, Any], folder: Path | None) -> None:
    """Add an entry to the file; one that failed doesn't replace one that didn't."""
    results = load()
    of_device = results.setdefault(device, {})
    if "error" not in entry or "result" not in of_device.get(part, {}):
        of_device[part] = entry
    write(NAME, {"results": results})
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(RESULTS / f"{NAME}.json", folder)


def run_all(
    names: Sequence[str], device: str, again: bool, seconds: float, folder: Path | None, is_trial: bool
) -> dict[str, dict[str, Any]]:
    """Run the parts that have no result yet, as far as the time goes; what is known of each, old or new."""
    deadline = perf_counter() + seconds
    source = source_digest()
    known = {} if is_trial else load().get(device, {})
    entries = {}
    for name in names:
        if "result" in known.get(name, {}) and not again:
            entries[name] = known[name]
            changed = "" if known[name]["source"] == source else "; the source has changed since"
            print(f"{name}: kept from {known[name]['environment']['date']}{changed}", flush=True)
            continue
        left = deadline - perf_counter()
        if left < 10:
            print(f"{name}: not begun, the time is over", flush=True)
            continue
        print(f"\n== {name}", flush=True)
        start = perf_counter()
        found = run_part(name, min(PARTS[name].limit, left), is_trial)
        taken = {"seconds": perf_counter() - start, "source": source, "environment": environment()}
        entries[name] = {**found, **taken}
        print(found, flush=True)
        if not is_trial:
            record(device, name, entries[name], folder)
    return entries


def table(entries: dict[str, dict[str, Any]]) -> Iterator[list[Any]]:
    """Rows of the table."""
    for name, entry in entries.items():
        if "error" in entry:
            yield [name, "failed", entry["error"].splitlines()[-1][:100]]
            continue
        for what, value in entry["result"].items():
            if what == "failures":
                for test, message in value.items():
                    yield [name, test, message.splitlines()[0][:100]]
            else:
                yield [name, what, value]


def main(argv: Sequence[str] | None = None) -> None:
    """Run the parts, print the table and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    parser.add_argument("--again", action="store_true", help="measure what has a result too")
    parser.add_argument("--minutes", type=float, default=8)
    parser.add_argument("--copy", type=Path, metavar="FOLDER", help="where the results are copied to")
    parser.add_argument("--dry-run", action="store_true", help="tiny, on the CPU, and nothing is written")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if not args.dry_run and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --dry-run tries the parts on the CPU")
    if args.part is not None:
        serve(args.part, args.answer, TRIAL if args.dry_run else Job())
        return
    device = "CPU" if args.dry_run else torch.cuda.get_device_name()
    entries = run_all(args.only, device, args.again, 60 * args.minutes, args.copy, args.dry_run)
    print(f"\n{device}")
    print_table(["part", "figure", "value"], list(table(entries)))
    n_failed = sum("error" in entry or bool(entry["result"].get("failed")) for entry in entries.values())
    sys.exit(f"failed: {n_failed}" if n_failed else 0)


if __name__ == "__main__":
    main()
