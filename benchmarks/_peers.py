"""anomalib's models, set up without a network, as sides of the comparisons."""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import numpy as np
import torch
import torchvision
from PIL import Image
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._data import ANOMALIB_BATCH_SIZE, Split, elpv_split, square_cells, timed_auroc, top_of_maps
from benchmarks._floor import Work, count_scoring
from skcsflow._compute import autocast
from skcsflow.datasets import load_elpv
from skcsflow.nn._weights import create_backbone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # anomalib and its dependencies warn of their own
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from anomalib.models.image import Csflow
    from anomalib.models.image.csflow import loss, torch_model
    from anomalib.models.image.patchcore.torch_model import PatchcoreModel
    from lightning.pytorch.callbacks import Callback


CPU = torch.device("cpu")
SCORING_BATCH = 16


class _Lite0(nn.Module):
    """The stages of EfficientNet-Lite0 up to stride 32 and 192 channels, under the name that anomalib looks for."""

    def __init__(self) -> None:
        super().__init__()
        model: Any = create_backbone("tf_efficientnet_lite0")
        self.stages = (
            nn.Sequential(model.conv_stem, model.bn1, *model.blocks[:6]).eval().requires_grad_(False)
        )

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"features.6.8": self.stages(images)}


@contextmanager
def _random_b5() -> Iterator[None]:
    """Let anomalib make its backbone with random weights, which make no difference to its timing."""

    def random_b5(weights: Any = None) -> nn.Module:
        return torchvision.models.efficientnet_b5(weights=None)

    with mock.patch.object(torch_model, "efficientnet_b5", random_b5):
        yield


def anomalib_csflow(
    input_size: int, hidden_channels: int = 1024, *, backbone: str = "b5", seed: int = 0
) -> torch_model.CsFlowModel:
    """The bare torch model of anomalib, in evaluation mode.

    Parameters
    ----------
    input_size : int
        Height and width of the images.
    hidden_channels : int, default=1024
        anomalib's own default.
    backbone : {"b5", "lite0"}, default="b5"
        anomalib's own, torchvision's EfficientNet-B5, with random weights; or EfficientNet-Lite0 with
        ImageNet weights in its place.
    seed : int, default=0
        Seed of all random weights.
    """

    def node_of_192_channels(_: int, *size: int, name: str) -> Any:
        return input_node(192, *size, name=name)

    input_node = torch_model.InputNode
    torch.manual_seed(seed)
    with _random_b5():
        if backbone == "b5":
            return torch_model.CsFlowModel((input_size, input_size), hidden_channels).eval()
        with mock.patch.object(torch_model, "InputNode", node_of_192_channels):
            model = torch_model.CsFlowModel((input_size, input_size), hidden_channels)
    model.feature_extractor.feature_extractor = _Lite0()
    return model.eval()


def anomalib_prepare(images: np.ndarray, input_size: int, device: torch.device = CPU) -> Tensor:
    """Images as anomalib's pre-processor gives them: resized with antialiasing, normalised, three channels.

    It resizes all three channels of grey images, which are the same; here one is resized, which is faster.
    Grey images are of shape (n, H, W), others (n, H, W, 3). They go to the device as bytes.
    """
    batch = torch.from_numpy(images).to(device)
    batch = (batch[:, None] if batch.ndim == 3 else batch.movedim(-1, 1)).float() / 255
    batch = F.interpolate(batch, size=(input_size, input_size), mode="bilinear", antialias=True)
    mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], device=device)[..., None, None]
    return (batch - mean) / std


@torch.no_grad()
def anomalib_features(model: nn.Module, images: np.ndarray, input_size: int) -> list[Tensor]:
    """Features of all images at three scales."""
    batches = [
        model.feature_extractor(anomalib_prepare(images[i : i + SCORING_BATCH], input_size))
        for i in range(0, len(images), SCORING_BATCH)
    ]
    return [torch.cat(maps) for maps in zip(*batches, strict=True)]


def anomalib_optimizer(model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of anomalib's Csflow."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    return torch.optim.Adam(parameters, lr=2e-4, eps=1e-4, weight_decay=1e-5, betas=(0.5, 0.9))


def anomalib_step(
    graph: nn.Module, features: list[Tensor], optimizer: torch.optim.Optimizer, precision: str = "float32"
) -> float:
    """One training step of anomalib's Csflow, from features on: its loss, its clipping."""
    optimizer.zero_grad()
    with autocast(CPU, precision):
        value = loss.CsFlowLoss()(*graph(features))
    value.backward()
    nn.utils.clip_grad_norm_(graph.parameters(), 1.0)
    optimizer.step()
    return value.item()


class Scorer:
    """Scores ELPV cells, and makes their maps, with anomalib's bare torch model.

    Parameters
    ----------
    input_size : int
        Height and width of the images.
    precision : {"float32", "bfloat16"}
        Precision to compute in.
    """

    def __init__(self, input_size: int, precision: str) -> None:
        self.images = load_elpv().images
        self.input_size = input_size
        self.precision = precision
        self.model = anomalib_csflow(input_size)

    @torch.inference_mode()
    def seconds(self, n_images: int, batch_size: int, is_square: bool) -> float:
        """Seconds for the first cells, in batches, as they are or cut to the input's size."""
        images = square_cells(n_images, self.input_size) if is_square else self.images[:n_images]
        start = perf_counter()
        for i in range(0, n_images, batch_size):
            self.score(anomalib_prepare(images[i : i + batch_size], self.input_size))
        return perf_counter() - start

    def score(self, batch: Tensor) -> None:
        """Score a prepared batch, and make its maps."""
        with autocast(CPU, self.precision):
            self.model(batch)


class OpenVINOScorer(Scorer):
    """`Scorer` with the network run by OpenVINO, on as many cores as torch uses.

    Parameters
    ----------
    input_size, precision
        See `Scorer`.
    """

    def __init__(self, input_size: int, precision: str) -> None:
        super().__init__(input_size, precision)
        self.converted = self._convert()
        self.compiled: dict[int, Any] = {}

    def score(self, batch: Tensor) -> None:
        """Score a prepared batch, and make its maps; a network is compiled for each size of batch."""
        if len(batch) not in self.compiled:
            self.compiled[len(batch)] = self._compile(batch)
        self.compiled[len(batch)](batch.numpy())

    @torch.no_grad()
    def _convert(self) -> Any:
        import openvino

        network = _ScoresAndMaps(self.model).eval().requires_grad_(False)
        example = torch.rand(2, 3, self.input_size, self.input_size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Exported and not traced: OpenVINO can't read the trace of FrEIA's graph.
            any_number = ({0: torch.export.Dim.DYNAMIC},)
            exported = torch.export.export(network, (example,), dynamic_shapes=any_number)
            return openvino.convert_model(exported)

    def _compile(self, batch: Tensor) -> Any:
        import openvino

        self.converted.reshape(list(batch.shape))
        hints = {"float32": "f32", "bfloat16": "bf16"}
        options = {
            "INFERENCE_PRECISION_HINT": hints[self.precision],
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        }
        compiled = openvino.Core().compile_model(self.converted, "CPU", options)
        if self.precision == "float32":
            scores, maps = compiled(batch.numpy()).values()
            expected = self.model(batch)
            np.testing.assert_allclose(scores, expected.pred_score.numpy(), rtol=1e-3)
            np.testing.assert_allclose(maps, expected.anomaly_map.numpy(), rtol=1e-3, atol=1e-5)
        return compiled


class _ScoresAndMaps(nn.Module):
    """anomalib's model in evaluation mode, with its outputs as a tuple."""

    def __init__(self, model: torch_model.CsFlowModel) -> None:
        super().__init__()
        self.feature_extractor = model.feature_extractor
        self.flow = model.graph
        self.maps = model.anomaly_map_generator
        self.scores = model._compute_anomaly_scores

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        z, _ = self.flow(self.feature_extractor(images))
        return self.scores(z), self.maps(z)


class Trainer:
    """Trains anomalib's bare torch model on ELPV cells as anomalib does, in a plain loop.

    Parameters
    ----------
    precision : {"float32", "bfloat16"}
        Precision to compute in, by autocast.
    """

    def __init__(self, precision: str = "float32") -> None:
        self.images = elpv_split().train
        self.precision = precision

    def fit(
        self, n_images: int, *, n_epochs: int, input_size: int, batch_size: int, backbone: str = "b5"
    ) -> tuple[float, list[float]]:
        """Train on the first cells; seconds to make the model, and of each epoch."""
        start = perf_counter()
        model = anomalib_csflow(input_size, backbone=backbone)
        optimizer = anomalib_optimizer(model.graph)
        once = perf_counter() - start
        epochs = []
        for epoch in range(n_epochs):
            start = perf_counter()
            order = np.random.RandomState(epoch).permutation(n_images)
            for i in range(0, n_images, batch_size):
                batch = anomalib_prepare(self.images[order[i : i + batch_size]], input_size)
                with autocast(CPU, self.precision):
                    features = model.feature_extractor(batch)
                anomalib_step(model.graph, features, optimizer, self.precision)
            epochs.append(perf_counter() - start)
        return once, epochs


class EngineTrainer:
    """Trains anomalib's Lightning module on ELPV cells with anomalib's engine, from image files.

    Logging, checkpoints, evaluation and progress bars are off.

    Parameters
    ----------
    precision : {"float32", "bfloat16"}
        Precision to compute in; Lightning's "bf16-mixed" is autocast.
    """

    def __init__(self, precision: str = "float32") -> None:
        self.images = elpv_split().train
        self.precision = "bf16-mixed" if precision == "bfloat16" else "32-true"
        logging.disable(logging.WARNING)
        warnings.simplefilter("ignore")

    def fit(
        self, n_images: int, *, n_epochs: int, input_size: int, batch_size: int
    ) -> tuple[float, list[float]]:
        """Train on the first cells; seconds of all that is done once, and of each epoch."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "good").mkdir()
            for i, image in enumerate(self.images[:n_images]):
                Image.fromarray(image).save(Path(folder) / "good" / f"{i}.png")
            clock = _EpochClock()
            start = perf_counter()
            data = Folder(
                name="cells",
                root=folder,
                normal_dir="good",
                train_batch_size=batch_size,
                num_workers=0,
                test_split_mode="none",
                val_split_mode="none",
            )
            size = (input_size, input_size)
            with _random_b5():
                model = Csflow(
                    pre_processor=Csflow.configure_pre_processor(size), evaluator=False, visualizer=False
                )
            engine = Engine(
                callbacks=[clock],
                default_root_dir=folder,
                accelerator="cpu",
                devices=1,
                max_epochs=n_epochs,
                limit_val_batches=0,
                barebones=True,
                precision=self.precision,
            )
            engine.fit(model, datamodule=data)
            seconds = perf_counter() - start
        return seconds - sum(clock.seconds), clock.seconds


class _EpochClock(Callback):
    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds.append(perf_counter() - self.start)


class PatchCore:
    """PatchCore of anomalib, its torch model, on EfficientNet-Lite0 with ImageNet weights.

    Features are those of strides 8 and 16.

    Parameters
    ----------
    seed : int, default=0
        Of the choice of patches, and of the split.
    input_size : int, default=256
        Height and width of the images.
    **split
        Which cells, see :func:`elpv_split`.
    """

    def __init__(self, seed: int = 0, input_size: int = 256, **split: Any) -> None:
        self.split = elpv_split(seed, **split)
        self.seed = seed
        self.input_size = input_size

    @torch.no_grad()
    def fit(self, *, thinning: int, coreset_ratio: float) -> dict[str, float]:
        """Fill the memory bank from the split's training images.

        Parameters
        ----------
        thinning : int
            One patch in so many, drawn at random, goes into the choice of the coreset; 1 in anomalib.
        coreset_ratio : float
            Share of these that the coreset keeps; 0.1 in anomalib.

        Returns
        -------
        dict of str to float
            Seconds and numbers of patches.
        """
        torch.manual_seed(self.seed)
        start = perf_counter()
        self.model = PatchcoreModel(("blocks.2", "blocks.4"), "tf_efficientnet_lite0", pre_trained=False)
        weights = create_backbone("tf_efficientnet_lite0").state_dict()
        self.model.feature_extractor.feature_extractor.load_state_dict(weights, strict=False)
        self.model.train()
        for i in range(0, len(self.split.train), ANOMALIB_BATCH_SIZE):
            batch = self.split.train[i : i + ANOMALIB_BATCH_SIZE]
            self.model(anomalib_prepare(batch, self.input_size))
            if thinning > 1:
                patches = self.model.embedding_store[-1]
                kept = torch.randperm(len(patches))[: len(patches) // thinning]
                self.model.embedding_store[-1] = patches[kept]
        features_seconds = perf_counter() - start
        n_patches = sum(len(patches) for patches in self.model.embedding_store)
        start = perf_counter()
        with warnings.catch_warnings(action="ignore"):  # it warns of its own default
            self.model.subsample_embedding(coreset_ratio)
        self.model.eval()
        return {
            "features_seconds": features_seconds,
            "coreset_seconds": perf_counter() - start,
            "n_patches": n_patches,
            "n_kept": len(self.model.memory_bank),
        }

    def test(self, batch_size: int) -> tuple[float, float]:
        """AUROC, and seconds per image in batches."""
        maps = []

        @torch.inference_mode()
        def score(images: np.ndarray) -> np.ndarray:
            scores = []
            for i in range(0, len(images), batch_size):
                found = self.model(anomalib_prepare(images[i : i + batch_size], self.input_size))
                scores.append(found.pred_score)
                maps.append(found.anomaly_map[:, 0])
            return torch.cat(scores).numpy()

        result = timed_auroc(score, self.split)
        self.tops = np.concatenate([top_of_maps(m.numpy()) for m in maps])
        return result

    def test_by_maps(self) -> float:
        """AUROC of the highest 3 % of each map, after `test`."""
        return float(roc_auc_score(self.split.is_defective, self.tops))

    def scoring_work(self) -> Work:
        """Of one image that is scored; the memory bank is among the weights."""
        return count_scoring(self.model, (self.input_size, self.input_size))


class ImagePatchCore(PatchCore):
    """`PatchCore` on any images.

    Parameters
    ----------
    seed, input_size : int
        See `PatchCore`.
    thinning : int
        See `PatchCore.fit`; the share that the coreset keeps is anomalib's.
    """

    def __init__(self, seed: int, input_size: int, thinning: int) -> None:
        self.seed = seed
        self.input_size = input_size
        self.thinning = thinning

    def fit_images(self, images: np.ndarray) -> float:
        """Fill the memory bank from images; seconds."""
        self.split = Split(images, images[:0], np.zeros(0, dtype=bool))
        found = self.fit(thinning=self.thinning, coreset_ratio=0.1)
        return found["features_seconds"] + found["coreset_seconds"]

    def score_images(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Scores, maps and seconds."""
        return _score_images(self.model, images, self.input_size)


class ImageCsflow:
    """anomalib's CS-Flow on EfficientNet-Lite0, trained on any images as anomalib does, in a plain loop.

    Features, which anomalib computes anew in every epoch, are computed once: the seconds are less than its own.

    Parameters
    ----------
    seed : int
        Of the flow's weights, and of the order of the images.
    input_size : int
        Height and width of the images.
    n_epochs : int
        How often each image is seen.
    """

    def __init__(self, seed: int, input_size: int, n_epochs: int) -> None:
        self.seed = seed
        self.input_size = input_size
        self.n_epochs = n_epochs

    def fit_images(self, images: np.ndarray) -> float:
        """Train on images; seconds."""
        start = perf_counter()
        self.model = anomalib_csflow(self.input_size, backbone="lite0", seed=self.seed)
        optimizer = anomalib_optimizer(self.model.graph)
        features = anomalib_features(self.model, images, self.input_size)
        rng = np.random.RandomState(self.seed)
        for _ in range(self.n_epochs):
            order = torch.from_numpy(rng.permutation(len(images)))
            for rows in order.split(ANOMALIB_BATCH_SIZE):
                anomalib_step(self.model.graph, [f[rows] for f in features], optimizer)
        return perf_counter() - start

    def score_images(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
        """Scores, maps and seconds."""
        return _score_images(self.model, images, self.input_size)


@torch.inference_mode()
def _score_images(
    model: nn.Module, images: np.ndarray, input_size: int
) -> tuple[np.ndarray, np.ndarray, float]:
    start = perf_counter()
    batches = (images[i : i + SCORING_BATCH] for i in range(0, len(images), SCORING_BATCH))
    found = [model(anomalib_prepare(batch, input_size)) for batch in batches]
    scores = torch.cat([f.pred_score for f in found]).numpy()
    maps = torch.cat([f.anomaly_map for f in found])[:, 0].numpy()
    return scores, maps, perf_counter() - start
