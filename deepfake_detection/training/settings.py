"""The settings of stage 03: their names, what they may be, and which go together."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

from ..errors import UserError
from ..models import registry
from .distributed import STRATEGIES

SPLITS = ("train", "val", "test")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine")
BALANCES = ("none", "sample", "weight")
PRECISIONS = ("float32", "mixed_float16", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything a training depends on besides its data. The defaults are the published recipe.

    Attributes:
        model: name in the registry.
        weights: `imagenet`, `none`, `auto` (the shipped detector if it is of this architecture, else ImageNet, else
            none) or a file.
        epochs: at most so many.
        batch_size: faces a step, over all workers together.
        learning_rate: the highest one.
        image_size: side of a face in px; the architecture's own if None.
        augment: `published`, `strong` or `none`.
        patience: epochs without a better validation loss after which training stops.
        optimizer: `adam`, `adamw` or `sgd` (Nesterov momentum 0.9).
        weight_decay: decoupled, of adamw and sgd.
        dropout: share; the architecture's own if None.
        balance: `none`; `sample` (as many reals as fakes an epoch); `weight` (the loss of the rarer class counts more).
        schedule: `constant`, or `cosine` down to 0 over all epochs.
        warmup_epochs: epochs (may be a fraction) over which the learning rate rises from 0.
        ema: decay of an exponential moving average of the weights, 0 for none; the average is what is validated and
            saved.
        precision: number format of the layers.
        freeze: layers that stay as they start: `none`, `backbone` (all but the classifier), a layer's name (it and all
            before it) or a share of the layers, such as `0.6`.
        unfreeze_after: epochs after which the frozen layers learn too; never if None.
        label_smoothing: 0..1.
        max_steps: at most so many steps an epoch; all if None.
        seed: of every random choice.
        strategy: `none`, `mirrored` (all GPUs of this machine) or `multi_worker` (TF_CONFIG, or Slurm's variables).
        replicas: with `mirrored` and no GPU: logical CPU devices.
        sequence_length: faces a sequence (sequence models only); the architecture's own if None.
        features: frame model that a sequence model takes its features from; the architecture's own if None. `weights`
            are then this frame model's, or a `.keras` file of the whole sequence model.
    """

    model: str = registry.DEFAULT
    weights: str = "imagenet"
    epochs: int = 20
    batch_size: int = 32
    learning_rate: float = 1e-4
    image_size: int | None = None
    augment: str = "published"
    patience: int = 5
    optimizer: str = "adam"
    weight_decay: float = 1e-4
    dropout: float | None = None
    balance: str = "none"
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    ema: float = 0.0
    precision: str = "float32"
    freeze: str = "none"
    unfreeze_after: int | None = None
    label_smoothing: float = 0.0
    max_steps: int | None = None
    seed: int = 1
    strategy: str = "none"
    replicas: int | None = None
    sequence_length: int | None = None
    features: str | None = None

    def frozen_in(self, epoch: int) -> str:
        """What is frozen in this epoch (from 0), as `freeze`."""
        return self.freeze if self.unfreeze_after is None or epoch < self.unfreeze_after else "none"


def validate(settings: Settings) -> None:
    """Refuses settings that contradict each other, before anything is read.

    Raises:
        UserError: which one and why.
    """
    registry.module(settings.model)
    for name, allowed in (
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("balance", BALANCES),
        ("precision", PRECISIONS),
        ("strategy", STRATEGIES),
    ):
        if getattr(settings, name) not in allowed:
            raise UserError(f"--{name} cannot be {getattr(settings, name)!r}", hint="one of: " + ", ".join(allowed))
    for name, low, high in (
        ("weight_decay", 0, math.inf),
        ("warmup_epochs", 0, math.inf),
        ("ema", 0, 1),
        ("label_smoothing", 0, 1),
        ("dropout", 0, 1),
    ):
        value = getattr(settings, name)
        if value is not None and not low <= value < high:
            raise UserError(
                f"--{name.replace('_', '-')} cannot be {value}",
                hint=f"{low} or more" + ("" if math.isinf(high) else f", less than {high}"),
            )
    if settings.replicas is not None and settings.strategy != "mirrored":
        raise UserError("--replicas is for --strategy mirrored", hint="leave out --replicas")
    if settings.unfreeze_after is not None and settings.freeze == "none":
        raise UserError(
            "--unfreeze-after says when frozen layers begin to learn, and none are frozen", hint="add --freeze backbone"
        )
    arch = registry.module(settings.model)
    if settings.features is not None and not hasattr(arch, "FEATURES"):
        raise UserError(f"{settings.model} has no feature extractor to choose", hint="leave out --features")
    if settings.sequence_length is not None and arch.KIND != "sequence":
        raise UserError(f"{settings.model} is no sequence model", hint="leave out --sequence-length")
    if settings.weights not in ("imagenet", "none", "auto") and not Path(settings.weights).is_file():
        raise UserError(
            "there is no such weights file",
            file=settings.weights,
            hint="imagenet, none, auto or a .keras, .h5 or .weights.h5 file",
        )
