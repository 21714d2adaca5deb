"""Feature maps -> trained flow and history."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from statistics import median_low
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from skcsflow._checkpoints import Checkpoint
from skcsflow._checks import warn
from skcsflow._compute import (
    CoreThreads,
    Processes,
    RecordedFunction,
    autocast,
    cuda_kernels,
    has_fast_bfloat16,
    on_new_thread,
    one_core,
)
from skcsflow._features import FeatureMaps, in_batches
from skcsflow.nn import CrossScaleFlow, CSFlowLoss

__all__ = ["LR_SCHEDULES", "SETBACK_RATE", "FlowTrainer", "initialize_whitening", "resolve_n_epochs"]

LR_SCHEDULES = ("one_cycle", "constant")

PART_SIZE = 8
"""Images of a batch that one core computes the gradient of, at most. Fewer would read wide flows' weights too often."""

AUTO_STEPS = 600
"""Steps of a training, however many images there are: what a flow has learnt depends on them."""

ROUND_STEPS = 32
"""Steps of an epoch after which a training looks whether it has diverged, at most; and whether its state is saved."""

SETBACK_RATE = 0.2
"""What the learning rate is multiplied by where a training has diverged."""

MOST_SETBACKS = 6
"""How often a training may diverge. The rate is then lower by 15,000."""

_N_PROBED = 64
"""Images whose loss is compared before and after training: enough that no single one decides."""

RECORDED_BYTES = 2**27
"""Weights of flows whose training steps are recorded on a GPU, at most."""

Result = Sequence[Tensor]
Map = Callable[[Callable[[slice], Result], Iterable[slice]], Iterator[Result]]


def resolve_n_epochs(n_epochs: int | str, n_images: int, batch_size: int) -> int:
    """Number of epochs that the parameter `n_epochs` means for so many training images."""
    if n_epochs == "auto":
        return -(-AUTO_STEPS // -(-n_images // batch_size))
    return int(n_epochs)


def initialize_whitening(
    flow: CrossScaleFlow, features: Sequence[FeatureMaps], rows: NDArray[np.int64]
) -> None:
    """Set a flow's whitening layer by the feature maps of training images, which are in these rows."""
    if features[0].device.type == "cuda":
        flow.initialize_whitening(in_batches(features, rows))
    else:  # on one core: two would wait for each other longer than they compute
        on_new_thread(lambda: flow.initialize_whitening(in_batches(features, rows)))


@dataclass
class FlowTrainer:
    """Training of a flow on feature maps.

    On the CPU a batch of up to 16 images is split in two, a larger one into parts of eight, and each
    part's gradient is computed on one core. So the result doesn't depend on the number of cores, and
    cores wait for each other once per step and not in every operation.

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
        Norm that gradients are clipped to; None leaves them as they are.
    precision : {"float32", "tf32", "bfloat16", "float64"}
        Precision to compute in.
    seed : int
        Seed of the order of the images, and of the noise.
    noise : float, default=0.0
        Standard deviation of white noise that is added to the whitened features, anew in
        every step.
    n_threads : int, default=1
        Number of threads on the CPU.
    verbose : int, default=0
        Whether to show a progress bar.
    processes : Processes, default=Processes()
        Those that share the work: each takes a part of every batch, and all take the same steps.

    Attributes
    ----------
    history : dict of str to list of float
        ``loss`` (mean over the epoch's images), ``grad_norm`` (mean over its steps,
        before clipping), ``learning_rate`` (of its last step) and ``seconds``, each
        with one number per epoch.
    n_setbacks : int
        How often the training diverged, and went on from some steps before with a lower learning rate.
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
    n_threads: int = 1
    verbose: int = 0
    processes: Processes = field(default_factory=Processes)
    history: dict[str, list[float]] = field(
        default_factory=lambda: {"loss": [], "grad_norm": [], "learning_rate": [], "seconds": []}
    )
    n_setbacks: int = field(default=0, init=False)
    _recorded: dict[int, RecordedFunction] = field(default_factory=dict, init=False)
    _n_halvings: int = field(default=0, init=False)

    def train(
        self,
        flow: CrossScaleFlow,
        features: Sequence[FeatureMaps],
        rows: NDArray[np.int64],
        checkpoint: Checkpoint | None = None,
    ) -> float:
        """Train the coupling blocks of a flow in place.

        Where the loss blows up, the weights go back to those of some steps before, and on with a lower
        learning rate and a warning.

        Parameters
        ----------
        flow : CrossScaleFlow
            The flow, on the device to train on.
        features : sequence of Tensors or MappedMaps of shape (n, channels, H_i, W_i)
            Feature maps of images.
        rows : ndarray of int
            Which of them are trained on.
        checkpoint : Checkpoint or None, default=None
            Where the state of the training is saved as it goes, and taken from where it was cut short. The result
            is the same bit for bit.

        Returns
        -------
        float
            How far the loss has fallen, in nats per dimension.

        Raises
        ------
        ValueError
            Where loss or gradient turn NaN or infinite, or the loss is far above that before the training, time and
            again.
        """
        device = features[0].device
        optimizer = self._optimizer(flow)
        n_batches = -(-len(rows) // self.batch_size)
        schedule = self._schedule(optimizer, self.n_epochs * n_batches)
        # The order is drawn on the CPU, so that it is the same on every device.
        order_generator = torch.Generator().manual_seed(self.seed)
        noise_generator = torch.Generator(device).manual_seed(self.seed)
        run = _Run(flow, optimizer, schedule, noise_generator, self.history)
        flow.train()
        # Not disable=True, which starts a thread all the same.
        bar = tqdm(total=self.n_epochs, desc="training", unit="epoch") if self.verbose else None
        with self._part_computing(device) as map_parts, bar or nullcontext():

            def probe() -> float:
                return self.processes.from_first(self._probe(flow, features, rows, map_parts))

            if checkpoint is None or checkpoint.saved is None:
                run.good = run.weights()
                run.numbers.loss_before = probe()
                if not math.isfinite(run.numbers.loss_before):
                    raise ValueError(
                        f"The loss is {run.numbers.loss_before} before the first step of the training: the features "
                        "of X are too large. Floats should lie between 0 and 1."
                    )
            else:
                run.restore(checkpoint.saved)
                checkpoint.saved = None  # three times as large as the flow
            for epoch in range(self.n_epochs):
                order = torch.from_numpy(rows)[torch.randperm(len(rows), generator=order_generator)]
                if isinstance(features[0], Tensor):  # rows of mapped files are taken on the CPU
                    order = order.to(device)
                batches = order.split(self.batch_size)
                # Steps of this epoch before the training was cut short.
                done = run.numbers.n_steps - epoch * n_batches
                for start in range(done, n_batches, ROUND_STEPS):
                    ends_epoch = start + ROUND_STEPS >= n_batches
                    is_last = ends_epoch and epoch + 1 == self.n_epochs
                    of_round = batches[start : start + ROUND_STEPS]
                    self._train_round(run, features, of_round, map_parts, probe if is_last else None)
                    if ends_epoch:
                        run.end_epoch(len(rows), n_batches)
                    if checkpoint is not None and checkpoint.is_due:
                        checkpoint.save(run.state())
                if bar is not None:
                    bar.set_postfix(loss=f"{self.history['loss'][-1]:.4f}")
                    bar.update()
        flow.eval().zero_grad(set_to_none=True)  # gradients are as large as the flow
        self.n_setbacks = run.numbers.n_setbacks
        return run.numbers.loss_before - run.numbers.loss_after

    @contextmanager
    def _part_computing(self, device: torch.device) -> Iterator[Map]:
        """Give what applies a function to the parts of a batch."""
        if device.type == "cuda":
            try:
                yield map
            finally:
                self._recorded.clear()  # they hold memory, also where an error is kept
            return
        n_parts = -(-self._share_size // self._part_size)
        with one_core(), CoreThreads(min(self.n_threads, n_parts)) as threads:
            yield threads.map

    def _optimizer(self, flow: CrossScaleFlow) -> torch.optim.Optimizer:
        # eps as in the authors' code: at the start the gains are 0 and most gradients
        # vanish; Adam's usual 1e-8 would blow their noise up to full steps. The betas
        # are Adam's usual ones there too.
        return torch.optim.Adam(
            flow.parameters(),
            lr=self.learning_rate,
            betas=(0.9, 0.999),
            eps=1e-4,
            weight_decay=self.weight_decay,
            fused=True,  # one pass over weights, gradients and moments: the paper's flow has 275 M of each
        )

    def _schedule(self, optimizer: torch.optim.Optimizer, n_steps: int) -> LRScheduler | None:
        if self.lr_schedule == "constant" or n_steps == 1:  # a cycle of one step is at its end: rate 0
            return None
        return torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=n_steps, cycle_momentum=False
        )

    def _train_round(
        self,
        run: "_Run",
        features: Sequence[FeatureMaps],
        batches: Sequence[Tensor],
        map_parts: Map,
        probe: Callable[[], float] | None,
    ) -> None:
        """Take a step for each batch; again with a lower learning rate where they blow the flow up."""
        start = time.perf_counter()
        numbers, weights = run.numbers, run.weights()
        while True:
            rates = run.rates()
            step_losses, step_norms = [], []
            for rows in batches:
                numbers.rate = run.optimizer.param_groups[0]["lr"]
                batch = [f[rows] for f in features]
                noise = self._draw_noise(batch, run.noise_generator)
                loss, norm = self._train_step(run.flow, run.optimizer, batch, noise, map_parts)
                if run.schedule is not None:
                    run.schedule.step()
                step_losses.append(loss)
                step_norms.append(norm)
            # Read off once per round: on a GPU every look at a number stalls the queue.
            losses, norms = torch.stack(step_losses).tolist(), torch.stack(step_norms).tolist()
            if math.isnan(numbers.loss_limit):
                # The first step's loss is that of the flow as given, with noise. One nat per dimension more is much.
                numbers.loss_limit = max(numbers.loss_before, losses[0]) + 1
            usual_loss = median_low(losses)  # as a batch may hold a single image that is unlike all others
            numbers.loss_after = usual_loss if probe is None else probe()
            is_finite = all(map(math.isfinite, [*losses, *norms]))
            if is_finite and all(loss <= numbers.loss_limit for loss in (usual_loss, numbers.loss_after)):
                break
            if numbers.n_setbacks == MOST_SETBACKS:
                self._raise_diverged(usual_loss, median_low(norms))
            run.go_back(rates)
            weights = run.good
        run.good = weights  # and not those now: the last step's outcome shows in the next
        numbers.n_steps += len(batches)
        numbers.epoch_loss += sum(loss * len(rows) for loss, rows in zip(losses, batches, strict=True))
        numbers.epoch_norm += sum(norms)
        numbers.epoch_seconds += time.perf_counter() - start

    def _train_step(
        self,
        flow: CrossScaleFlow,
        optimizer: torch.optim.Optimizer,
        batch: list[Tensor],
        noise: list[Tensor],
        map_parts: Map,
    ) -> tuple[Tensor, Tensor]:
        """Take one step; gives the loss and the norm of its gradient."""
        parameters = list(flow.parameters())
        inputs = [*batch, *noise]
        share = self.processes.share(len(batch[0]))

        def gradient(part: slice) -> Result:
            of_part = [t[part] for t in inputs]
            if self._is_recorded(flow, batch[0].device):  # the whole batch
                return self._recorded_gradient(flow, of_part)
            return self._gradient(flow, of_part, weight=len(of_part[0]) / len(batch[0]))

        while True:
            try:
                sums = _sum_up(map_parts(gradient, self._parts(batch, share)))
                break
            except torch.OutOfMemoryError:
                first = self._parts(batch, share)[0]
                size = first.stop - first.start
                if size == 1:
                    raise
            self._halve_parts(size)  # here, as the error holds what was on the GPU
        # Of a batch smaller than the number of processes, some have no image.
        sums = sums or (batch[0].new_zeros(()), *(torch.zeros_like(p) for p in parameters))
        loss, *gradients = self.processes.add_up(sums)
        for parameter, g in zip(parameters, gradients, strict=True):
            # The fused step takes numbers as they lie in memory.
            is_alike = g.stride() == parameter.stride()
            parameter.grad = g if is_alike else torch.empty_like(parameter).copy_(g)
        limit = float("inf") if self.max_grad_norm is None else self.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit)
        optimizer.step()
        return loss, norm

    def _gradient(self, flow: CrossScaleFlow, inputs: list[Tensor], weight: float = 1.0) -> list[Tensor]:
        """Mean loss of a batch and its gradients, times a weight; inputs are its maps, and then their noise."""
        with cuda_kernels(inputs[0].device, self.precision):
            loss = weight * self._loss(flow, inputs[: flow.n_scales], inputs[flow.n_scales :])
            return [loss.detach(), *torch.autograd.grad(loss, list(flow.parameters()))]

    def _halve_parts(self, size: int) -> None:
        self._n_halvings += 1
        self._recorded.clear()
        torch.cuda.empty_cache()
        warn(
            f"The GPU's memory doesn't hold the training of {size} images at a time. From now on gradients of "
            f"batch_size={self.batch_size} images are summed up over parts of {-(-size // 2)}, which gives the same "
            "results but for the last digits."
        )

    def _is_recorded(self, flow: CrossScaleFlow, device: torch.device) -> bool:
        # Launched one by one, the kernels of a step of the default flow take five times as long. Those of wide flows
        # compute for longer than they take to be launched, and their graphs would hold gigabytes.
        if device.type != "cuda" or self.n_epochs == 1 or self._n_halvings or self.processes.n > 1:
            return False
        if self.precision == "bfloat16":  # replayed steps gave other weights than the steps themselves
            return False
        return sum(p.nbytes for p in flow.parameters()) <= RECORDED_BYTES

    def _recorded_gradient(self, flow: CrossScaleFlow, inputs: list[Tensor]) -> list[Tensor]:
        n_images = len(inputs[0])  # the last batch of an epoch may be smaller than the others
        if n_images not in self._recorded:
            self._recorded[n_images] = RecordedFunction(partial(self._gradient, flow), inputs)
        return self._recorded[n_images](inputs)

    @torch.no_grad()
    def _probe(
        self,
        flow: CrossScaleFlow,
        features: Sequence[FeatureMaps],
        rows: NDArray[np.int64],
        map_parts: Map,
    ) -> float:
        """Mean loss of a few training images, evenly spread."""
        chosen = torch.from_numpy(rows[:: -(-len(rows) // _N_PROBED)])
        probed = [f[chosen] for f in features]

        def loss(part: slice) -> Result:
            images = [m[part] for m in probed]
            with torch.no_grad(), cuda_kernels(images[0].device, self.precision):  # in this thread too
                return (self._loss(flow, images) * len(images[0]),)

        losses = [loss for (loss,) in map_parts(loss, self._parts(probed))]
        return torch.stack(losses).sum().item() / len(probed[0])

    @property
    def _part_size(self) -> int:
        """Images of a batch that one core computes the gradient of, so that two cores have work from two images on."""
        return min(PART_SIZE, -(-self._share_size // 2))

    @property
    def _share_size(self) -> int:
        """Images of a batch that this process computes the gradient of, at most."""
        return -(-self.batch_size // self.processes.n)

    def _parts(self, batch: list[Tensor], share: slice = slice(None)) -> list[slice]:
        """The parts of a batch, or of a share of it."""
        start, stop, _ = share.indices(len(batch[0]))
        size = max(1, min(stop - start, self._share_size)) if batch[0].is_cuda else self._part_size
        for _ in range(self._n_halvings):
            size = -(-size // 2)
        return [slice(k, min(k + size, stop)) for k in range(start, stop, size)]

    def _loss(self, flow: CrossScaleFlow, batch: list[Tensor], noise: Sequence[Tensor] = ()) -> Tensor:
        device = batch[0].device
        # Where bfloat16 is slower than float32 there is nothing to gain: features and weights are in float32.
        is_slow = self.precision == "bfloat16" and not has_fast_bfloat16(device)
        with autocast(device, "float32" if is_slow else self.precision):
            # Whitened here and not once for all: half a percent of a step, and no second copy of all features.
            whitened, _ = flow.whiten(batch)
            if noise:
                whitened = [m + n for m, n in zip(whitened, noise, strict=True)]
            return CSFlowLoss()(*flow.couple(whitened))

    def _draw_noise(self, batch: list[Tensor], generator: torch.Generator) -> list[Tensor]:
        if not self.noise:
            return []
        # Drawn in float32 always, so that it is the same in every precision.
        drawn = [
            torch.randn(m.shape, generator=generator, device=m.device, dtype=torch.float32) for m in batch
        ]
        return [self.noise * d.to(m.dtype) for d, m in zip(drawn, batch, strict=True)]

    def _raise_diverged(self, loss: float, norm: float) -> NoReturn:
        advice = f"learning_rate={self.learning_rate!r} or max_grad_norm={self.max_grad_norm!r}"
        if self.noise > 1:
            advice += f", or feature_noise={self.noise!r}"
        raise ValueError(
            f"Training diverged: loss {loss:.6g}, gradient norm {norm:.6g} in epoch {len(self.history['loss']) + 1}, "
            f"though it was begun {MOST_SETBACKS} times again from there with a lower rate. Lower {advice}."
        )


def _sum_up(results: Iterable[Result]) -> Result:
    total: Result = ()
    for result in results:
        if total:
            torch._foreach_add_(list(total), list(result))
        else:
            total = result
    return total


@dataclass
class _Numbers:
    """How far a training has come."""

    n_steps: int = 0
    n_setbacks: int = 0
    loss_before: float = math.nan
    loss_after: float = math.nan
    loss_limit: float = math.nan
    rate: float = math.nan
    epoch_loss: float = 0.0  # sums over the epoch's steps so far
    epoch_norm: float = 0.0
    epoch_seconds: float = 0.0


@dataclass
class _Run:
    """What changes as a flow is trained, and is saved to go on later."""

    flow: CrossScaleFlow
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler | None
    noise_generator: torch.Generator
    history: dict[str, list[float]]
    numbers: _Numbers = field(default_factory=_Numbers)
    good: list[Tensor] = field(default_factory=list)
    """Weights that good steps were taken from."""

    def weights(self) -> list[Tensor]:
        """A copy of the flow's weights."""
        return [p.detach().clone() for p in self.flow.parameters()]

    def rates(self) -> tuple[float, dict[str, Any] | None]:
        """The learning rate, and where its schedule is."""
        (group,) = self.optimizer.param_groups
        return group["lr"], None if self.schedule is None else self.schedule.state_dict()

    def go_back(self, rates: tuple[float, dict[str, Any] | None]) -> None:
        """Go back to the last good weights, and to a fifth of these rates."""
        with torch.no_grad():
            for parameter, weights in zip(self.flow.parameters(), self.good, strict=True):
                parameter.copy_(weights)
        self.optimizer.state.clear()  # Adam's means are of the gradients that led astray
        (group,) = self.optimizer.param_groups
        group["lr"], of_schedule = rates
        if self.schedule is not None and of_schedule is not None:
            self.schedule.load_state_dict(of_schedule)
        for name in {"lr", "initial_lr", "max_lr", "min_lr"} & group.keys():  # those that schedules go by
            group[name] *= SETBACK_RATE
        self.numbers.n_setbacks += 1

    def end_epoch(self, n_images: int, n_batches: int) -> None:
        """Note an epoch's means down."""
        n = self.numbers
        for name, value in (
            ("loss", n.epoch_loss / n_images),
            ("grad_norm", n.epoch_norm / n_batches),
            ("learning_rate", n.rate),
            ("seconds", n.epoch_seconds),
        ):
            self.history[name].append(value)
        n.epoch_loss = n.epoch_norm = n.epoch_seconds = 0.0

    def state(self) -> dict[str, Any]:
        """All of it, as plain values and tensors."""
        return {
            "flow": self.flow.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "noise": self.noise_generator.get_state(),
            "good": self.good,
            "history": self.history,
            "numbers": asdict(self.numbers),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what :meth:`state` gave."""
        self.flow.load_state_dict(state["flow"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.noise_generator.set_state(state["noise"])
        self.history.update(state["history"])
        self.numbers = _Numbers(**state["numbers"])
        self.good = [g.to(p.device) for g, p in zip(state["good"], self.flow.parameters(), strict=True)]
