"""Feature maps -> trained flow and history."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from skcsflow._cuda_graph import GraphedStep
from skcsflow._device import autocast, has_fast_bfloat16, repeatable
from skcsflow._storage import FeatureMaps
from skcsflow.nn import CrossScaleFlow, CSFlowLoss

__all__ = ["LR_SCHEDULES", "FlowTrainer"]

LR_SCHEDULES = ("one_cycle", "constant")

_N_PROBED = 64
"""Images whose loss before and after tells a training that blew up: many enough that no one decides."""


@dataclass
class FlowTrainer:
    """Training of a flow on feature maps that are at hand.

    Parameters
    ----------
    n_epochs, batch_size : int
        Passes over the images, and images per step.
    learning_rate : float
        The rate; with a one-cycle schedule its maximum.
    lr_schedule : {"one_cycle", "constant"}
        How the rate changes from step to step.
    weight_decay : float
        Adam's L2 penalty.
    max_grad_norm : float or None
        Norm that gradients are cut down to; None leaves them alone.
    precision : str
        See :mod:`skcsflow._device`.
    seed : int
        Seed of the order of the images, and of the noise.
    noise : float, default=0.0
        Standard deviation of white noise that is added to the whitened features, anew in
        every step. A few hundred images don't determine a density sharply; without noise
        the flow goes on to sharpen it around them.
    verbose : int
        Whether to show a progress bar.

    Attributes
    ----------
    history : dict of str to list of float
        ``loss`` (mean over the epoch's images), ``grad_norm`` (mean over its steps,
        before clipping), ``learning_rate`` (of its last step) and ``seconds``, each
        with one number per epoch.
    """

    n_epochs: int
    batch_size: int
    learning_rate: float
    lr_schedule: str
    weight_decay: float
    max_grad_norm: float | None
    precision: str
    seed: int
    noise: float = 0.0
    verbose: int = 0
    history: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "grad_norm": [], "learning_rate": [], "seconds": []}
    )

    def train(self, flow: CrossScaleFlow, features: Sequence[FeatureMaps]) -> CrossScaleFlow:
        """Train the coupling blocks of a flow in place.

        Parameters
        ----------
        flow : CrossScaleFlow
            The flow, on the device to train on.
        features : sequence of Tensors or MappedMaps of shape (n, channels, H_i, W_i)
            Feature maps of the training images.

        Returns
        -------
        CrossScaleFlow
            The same flow.

        Raises
        ------
        ValueError
            Where loss or gradient turn NaN or infinite, or the loss after training is
            far above that before.
        """
        device = features[0].device
        n_images = len(features[0])
        steps_per_epoch = -(-n_images // self.batch_size)
        optimizer = self._optimizer(flow, device)
        step: Callable[[list[Tensor]], tuple[Tensor, ...]] = partial(self._train_step, flow, optimizer)
        if device.type == "cuda":
            step = GraphedStep(step)
        schedule = self._schedule(optimizer, self.n_epochs * steps_per_epoch)
        # The order is drawn on the CPU, so that it is the same on every device.
        generator = torch.Generator().manual_seed(self.seed)
        noise_generator = torch.Generator(device).manual_seed(self.seed)
        flow.train()
        with repeatable(device), tqdm(total=self.n_epochs, disable=not self.verbose, unit="epoch") as bar:
            before = self._probe(flow, features)
            for _ in range(self.n_epochs):
                order = torch.randperm(n_images, generator=generator)
                if isinstance(features[0], Tensor):  # rows of mapped files are taken on the CPU
                    order = order.to(device)
                self._train_epoch(step, features, order, optimizer, schedule, noise_generator)
                bar.set_postfix(loss=f"{self.history['loss'][-1]:.4f}")
                bar.update()
            after = self._probe(flow, features)
        flow.eval().zero_grad(set_to_none=True)  # gradients are as large as the flow
        # Finite, and yet it may have blown up: one nat per dimension is much. The history can't tell:
        # its first loss may have blown up already, and its last was taken before the last step.
        if not after <= before + 1:
            self._raise_diverged(after, self.history["grad_norm"][-1], self.n_epochs)
        return flow

    @torch.no_grad()
    def _probe(self, flow: CrossScaleFlow, features: Sequence[FeatureMaps]) -> float:
        """Mean loss of a few images, evenly spread."""
        every = -(-len(features[0]) // _N_PROBED)
        probed = torch.arange(0, len(features[0]), every)
        losses = [
            self._loss(flow, [f[rows] for f in features]) * len(rows)
            for rows in probed.split(self.batch_size)
        ]
        return torch.stack(losses).sum().item() / len(probed)

    def _optimizer(self, flow: CrossScaleFlow, device: torch.device) -> torch.optim.Optimizer:
        on_gpu = device.type == "cuda"  # where a recorded step must read the rate from the GPU's memory
        # eps as in the authors' code: at the start the gains are 0 and most gradients
        # vanish; Adam's usual 1e-8 would blow their noise up to full steps. The betas
        # are Adam's usual ones there too.
        return torch.optim.Adam(
            flow.parameters(),
            lr=torch.tensor(self.learning_rate, device=device) if on_gpu else self.learning_rate,
            betas=(0.9, 0.999),
            eps=1e-4,
            weight_decay=self.weight_decay,
            capturable=on_gpu,
            fused=True,  # one pass over weights, gradients and moments: the paper's flow has 275 M of each
        )

    def _schedule(self, optimizer: torch.optim.Optimizer, n_steps: int) -> LRScheduler | None:
        if self.lr_schedule == "constant" or n_steps == 1:  # a cycle of one step is at its end: rate 0
            return None
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=n_steps, cycle_momentum=False
        )

    def _train_epoch(
        self,
        step: Callable[[list[Tensor]], tuple[Tensor, ...]],
        features: Sequence[FeatureMaps],
        order: Tensor,
        optimizer: torch.optim.Optimizer,
        schedule: LRScheduler | None,
        noise_generator: torch.Generator,
    ) -> None:
        start = time.perf_counter()
        losses, norms = [], []
        for rows in order.split(self.batch_size):
            rate = optimizer.param_groups[0]["lr"]
            rate = rate.clone() if isinstance(rate, Tensor) else rate
            batch = [f[rows] for f in features]
            loss, norm = step([*batch, *self._draw_noise(batch, noise_generator)])
            if schedule is not None:
                schedule.step()
            losses.append(loss * len(rows))
            norms.append(norm)
        # Read off once per epoch: on a GPU every look at a number stalls the queue.
        mean_loss = torch.stack(losses).sum().item() / len(order)
        mean_norm = torch.stack(norms).mean().item()
        if not (math.isfinite(mean_loss) and math.isfinite(mean_norm)):
            self._raise_diverged(mean_loss, mean_norm, len(self.history["loss"]) + 1)
        for name, value in (
            ("loss", mean_loss),
            ("grad_norm", mean_norm),
            ("learning_rate", float(rate)),
            ("seconds", time.perf_counter() - start),
        ):
            self.history[name].append(value)

    def _draw_noise(self, batch: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        if not self.noise:
            return []
        # Drawn in float32 always, so that it is the same in every precision.
        drawn = [
            torch.randn(m.shape, generator=generator, device=m.device, dtype=torch.float32) for m in batch
        ]
        return [self.noise * d.to(m.dtype) for d, m in zip(drawn, batch, strict=True)]

    def _raise_diverged(self, loss: float, norm: float, epoch: int) -> None:
        raise ValueError(
            f"Training diverged: loss {loss:.6g}, gradient norm {norm:.6g} in epoch {epoch}. "
            f"Lower learning_rate={self.learning_rate!r} or max_grad_norm={self.max_grad_norm!r}."
        )

    def _loss(self, flow: CrossScaleFlow, batch: list[Tensor], noise: Sequence[Tensor] = ()) -> Tensor:
        device = batch[0].device
        # Where bfloat16 is slower than float32 there is nothing to gain by it: features and weights are in float32.
        is_slow = self.precision == "bfloat16" and not has_fast_bfloat16(device)
        with autocast(device, "float32" if is_slow else self.precision):
            # Whitened here and not once for all: half a percent of a step, and no second copy of all features.
            whitened, _ = flow.whiten(batch)
            if noise:
                whitened = [m + n for m, n in zip(whitened, noise, strict=True)]
            return CSFlowLoss()(*flow.couple(whitened))

    def _train_step(
        self, flow: CrossScaleFlow, optimizer: torch.optim.Optimizer, batch: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        optimizer.zero_grad(set_to_none=True)
        loss = self._loss(flow, batch[: flow.n_scales], batch[flow.n_scales :])
        loss.backward()
        limit = float("inf") if self.max_grad_norm is None else self.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(flow.parameters(), limit)
        optimizer.step()
        return loss.detach(), norm
