#!/usr/bin/env python
"""Stage 03: trains a detector on split_dataset/ and judges it on the test set.

    python 03_train_cnn.py                                             # EfficientNet-B0, the published recipe
    python 03_train_cnn.py --architecture efficientnet_lite0 --weights auto   # from the shipped detector
    python 03_train_cnn.py --out runs/a --dataset split_dataset --augment strong --schedule cosine --ema 0.999

Reads <out>/split_dataset/{train,val,test}/{real,fake}. Writes tmp_checkpoint/best_model.keras and .h5, history.csv,
Loss.png, Accuracy.png, Confusion.png, ROC.png, metrics.json, cnn_preds_values.json and logs/ (TensorBoard) into <out>,
and of models of single faces detector/, the folder that predict.py and serve.py take with --model-dir.
Interrupted, the same command goes on at the last finished epoch. A score is P(real): 1 real, 0 fake.
"""

import argparse
import sys
from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.errors import UserError


def folds(text):
    """argparse type: `auto`, 0, or a number of folds from 2 on."""
    if text == "auto":
        return text
    value = int(text)
    if value < 0 or value == 1:
        raise argparse.ArgumentTypeError(f"must be auto, 0, or 2 or more, not {text}")
    return value


def parser():
    p = cli.parser(__doc__, idle=("--layout", "--labels"))
    data = p.add_argument_group("data")
    data.add_argument("--dataset", type=Path, metavar="DIR", help="the split faces (default: <out>/split_dataset)")
    cli.frames_option(data)
    data.add_argument(
        "--cache-mb",
        type=cli.positive_int,
        metavar="N",
        help="most memory for decoded faces (default: a fifth of the machine's)",
    )
    model_options(p.add_argument_group("model"))
    training = p.add_argument_group("training")
    loop_options(training)
    update_options(training)
    run_options(training)
    return p


def setting(group, name: str, text: str = "", **how) -> None:
    """An option that is a field of the training's `Settings`, with its default."""
    from deepfake_detection.training.settings import Settings

    default = getattr(Settings(), name.removeprefix("--").replace("-", "_"))
    group.add_argument(name, default=default, help=f"{text} (default: %(default)s)".strip(), **how)


def model_options(model) -> None:
    from deepfake_detection.models import registry
    from deepfake_detection.training.settings import Settings

    default = Settings()
    cli.option(
        model,
        "--architecture",
        old=["--model"],
        dest="model",
        metavar="NAME",
        help="one of: " + ", ".join(registry.names()) + f" (default: {default.model}; in folds the shipped detector)",
    )
    model.add_argument(
        "--weights",
        metavar="W",
        help="imagenet, none, auto (the shipped detector if it fits) or a .keras, .h5 or .weights.h5 file "
        f"(default: {default.weights}; in folds the shipped detector)",
    )
    model.add_argument(
        "--image-size", type=cli.positive_int, metavar="PX", help="side of a face (default: the model's own)"
    )
    model.add_argument("--dropout", type=cli.fraction, metavar="X", help="(default: the model's own)")
    setting(
        model,
        "--freeze",
        "layers that stay as they start: none, backbone, a layer's name (up to it) or a share",
        metavar="WHICH",
    )
    model.add_argument(
        "--unfreeze-after",
        type=cli.positive_int,
        metavar="EPOCHS",
        help="let the frozen layers learn after so many epochs",
    )
    model.add_argument(
        "--sequence-length", type=cli.positive_int, metavar="T", help="faces a sequence (default: the model's own)"
    )
    model.add_argument(
        "--features",
        metavar="NAME",
        help="frame model that inception_v3_gru or efficientnet_b2_gru takes its features from",
    )


def loop_options(group) -> None:
    from deepfake_detection.training.cross_validation import FEW_GROUPS

    group.add_argument(
        "--folds",
        type=folds,
        metavar="K",
        help="validate in K grouped folds on the frozen network's features, training its classifier only; 0: train "
        f"the whole network on the split; auto: folds with fewer than {FEW_GROUPS} groups of people (default: auto, "
        "and 0 where --model or --weights is given)",
    )
    setting(group, "--epochs", type=cli.positive_int, metavar="N")
    setting(group, "--batch-size", type=cli.positive_int, metavar="N")
    group.add_argument(
        "--max-steps", type=cli.positive_int, metavar="N", help="at most so many steps an epoch (default: all)"
    )
    text = "epochs without a better validation loss before training stops"
    setting(group, "--patience", text, type=cli.positive_int, metavar="N")
    setting(group, "--augment", choices=("published", "strong", "none"))


def update_options(group) -> None:
    from deepfake_detection.training import settings

    setting(group, "--learning-rate", type=cli.positive_float, metavar="X")
    setting(group, "--optimizer", choices=settings.OPTIMIZERS)
    setting(group, "--weight-decay", "of adamw and sgd", type=float, metavar="X")
    setting(group, "--schedule", "of the learning rate", choices=settings.SCHEDULES)
    setting(group, "--warmup-epochs", "epochs over which the learning rate rises from 0", type=float, metavar="X")
    text = "sample: as many reals as fakes an epoch; weight: the rarer class counts more"
    setting(group, "--balance", text, choices=settings.BALANCES)
    setting(group, "--label-smoothing", type=cli.fraction, metavar="X")
    text = "decay of a moving average of the weights, e.g. 0.999; 0 for none"
    setting(group, "--ema", text, type=cli.fraction, metavar="X")
    setting(group, "--precision", choices=settings.PRECISIONS)


def run_options(group) -> None:
    from deepfake_detection.training.distributed import STRATEGIES

    group.add_argument(
        "--seeds",
        type=cli.positive_int,
        default=1,
        metavar="N",
        help="repeat with N seeds, each in <out>/seed_<n>, and tabulate mean and spread in seeds.csv (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--plot-model", action="store_true", help="only draw the architecture into <out>/architecture.png"
    )
    text = "mirrored: all GPUs of this machine; multi_worker: several processes (TF_CONFIG or Slurm)"
    setting(group, "--strategy", text, choices=STRATEGIES)
    group.add_argument(
        "--replicas",
        type=cli.positive_int,
        metavar="N",
        help="with --strategy mirrored and no GPU: logical CPU devices",
    )


def parse(argv=None):
    return parser().parse_args(argv)


def main(argv=None):
    options, given = cli.parse_given(parser(), argv)
    import dataclasses

    from deepfake_detection.export import own
    from deepfake_detection.training import cross_validation, margins, results, stage, start
    from deepfake_detection.training.settings import Settings

    options.dataset = options.dataset or options.out / "split_dataset"
    options.frames_dir = cli.frames_folder(options)
    cross_validation.resolve(options, given)
    options.faces_margin = None if options.plot_model else margins.of_split(options.dataset, options.frames_dir)
    cli.announce("03_train_cnn", options, options.out)
    names = {field.name for field in dataclasses.fields(Settings)}
    settings = Settings(**{name: value for name, value in vars(options).items() if name in names})
    if options.plot_model:
        print(f"architecture: {start.plot_model(settings, options.out)}")
        return
    if said := own.notice(options.model):
        print(said, file=sys.stderr)
    faces = dict(frames=options.frames_dir, faces_margin=options.faces_margin)
    common = dict(workers=options.workers, force=options.force, cache_mb=options.cache_mb, **faces)
    if options.seeds > 1:
        if options.strategy != "none":
            raise UserError(
                "--seeds and --strategy do not go together", hint="repeat the command with other --seed numbers"
            )
        rows = stage.run_seeds(options.seeds, options.dataset, options.out, settings, **common)
        for row in rows:
            print("  ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
        print(f"table: {options.out / 'seeds.csv'}")
        for seed in range(options.seed, options.seed + options.seeds):
            for line in own.make(options.out / f"seed_{seed}", options.dataset, **faces):
                print(line)
        return
    if options.folds:
        result = cross_validation.run(options.dataset, options.out, settings, folds=options.folds, **common)
    else:
        result = stage.run(options.dataset, options.out, settings, **common)
    if not result:
        print("worker done; worker 0 writes the results")
        return
    unit = "sequences" if "sequences" in result else "faces"
    print("out of fold:" if options.folds else "test set:", *results.summary(result, unit), sep="\n")
    print(
        f"model: {options.out / 'tmp_checkpoint' / 'best_model.keras'}\nscores: {options.out / 'cnn_preds_values.json'}"
    )
    for line in own.make(options.out, options.dataset, **faces):
        print(line)


if __name__ == "__main__":
    cli.run(main)
