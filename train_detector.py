"""Trains a detector like the shipped one on your own faces, and writes what predict.py and serve.py take.

    python train_detector.py --data VIDEOS --data MORE_VIDEOS --real-faces PORTRAITS \\
        --weights models/detector.keras --out my_detector --label "my detector" --label-version 1.0
    recipes/detector_2_5.sh     # the shipped one

Makes an index of the faces, or takes one with --index: a CSV file with a row a picture or video: file, label (real or
fake), source, manipulation, group (nobody of one group is in two splits), split (train, val, or unseen: for choosing
only), window (wide, or tight for crops that end at the brows and the chin), original (the untouched file of a fake),
frames. Cuts the faces once into --work, trains, calibrates on `val` and `unseen`: keep videos that shall test the
detector out of it. A run that was killed goes on when the same command is given again.
"""

import argparse
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from deepfake_detection import cli
from deepfake_detection.errors import UserError


def side(text: str) -> int:
    """argparse type: an input side. Between multiples of 16 the strides' padding falls on other sides than in training,
    and the network loses .01 of AUC at once."""
    px = cli.positive_int(text)
    if px % 16:
        raise argparse.ArgumentTypeError(
            f"must be a multiple of 16 px, such as {max(round(px / 16), 2) * 16}, not {px}"
        )
    return px


def parse(argv=None):
    p = cli.parser(__doc__, data=False, out=False, idle=("--force",))
    source_options(p)
    p.add_argument(
        "--weights",
        default="none",
        metavar="PATH",
        help="what to start from: none, imagenet or a weights file (default: %(default)s)",
    )
    p.add_argument(
        "--work",
        type=Path,
        default=Path("build/detector"),
        metavar="DIR",
        help="cut faces and runs (default: %(default)s)",
    )
    p.add_argument(
        "--name", default="main", metavar="NAME", help="name of the run, a folder of --work (default: %(default)s)"
    )
    run_options(p)
    batch_options(p)
    ship_options(p)
    options, given = cli.parse_given(p, argv)
    say_idle(options, given)
    return options


def say_idle(options, given: set[str]) -> None:
    """Says which of the options that were given do nothing beside the others."""
    from deepfake_detection.training.pairs import TRAINED_BY

    for why, idle, names in (
        (
            "without --out",
            not options.out,
            ("label", "label_version", "rim", "flicker", *(("window",) if not options.head else ())),
        ),
        ("with --steps 0", not options.steps, TRAINED_BY),
        ("with --index", options.index, ("layout",)),
    ):
        if idle and (found := [f"--{name.replace('_', '-')}" for name in names if name in given]):
            print(f"note: {why}, {', '.join(found)} {'does' if len(found) == 1 else 'do'} nothing", file=sys.stderr)


def source_options(p) -> None:
    """What is learnt from."""
    from deepfake_detection.datasets.manifest import LAYOUTS

    where = p.add_mutually_exclusive_group(required=True)
    again = dict(type=Path, action="append", default=[], metavar="DIR")
    where.add_argument("--data", **again, help="folder of labelled videos in any --layout (again for more)")
    where.add_argument("--index", type=Path, metavar="FILE", help="CSV file with a row a picture or video")
    p.add_argument("--layout", default="auto", metavar="NAME", help=", ".join(LAYOUTS) + " (default: %(default)s)")
    p.add_argument(
        "--real-faces", **again, help="beside --data: folder of pictures of untouched faces (again for more)"
    )
    p.add_argument(
        "--recipe",
        type=Path,
        metavar="FILE",
        help="JSON file: how many faces of which source a batch has (default: all sources, stills as often as clips)",
    )


def run_options(p) -> None:
    """What becomes `training.pairs.Settings`."""
    from deepfake_detection.training.pairs import Settings

    def setting(name: str, text: str, **how) -> None:
        default = getattr(Settings(), name.removeprefix("--").replace("-", "_"))
        p.add_argument(name, default=default, help=f"{text} (default: %(default)s)", **how)

    setting("--architecture", "network", metavar="NAME")
    setting("--steps", "batches of 64 faces; 0: the network stays as --weights has it", type=cli.count, metavar="N")
    setting(
        "--stop-at", "end after so many of these, at the learning rate then reached", type=cli.positive_int, metavar="N"
    )
    setting("--learning-rate", "peak", type=cli.positive_float, metavar="X")
    weight = dict(type=cli.fraction, metavar="WEIGHT")
    setting("--ranking", "loss that puts a fake below its original", **weight)
    setting("--consistency", "loss that holds a face's score to that of its degraded copy", **weight)
    setting("--centring", "loss that holds the middle of a pair's logits at 0", **weight)
    setting("--worst", "part of a batch's pairs, those with the largest loss, that count", **weight)
    setting("--freeze", "this layer and all before it stand still, or none", metavar="LAYER")
    p.add_argument(
        "--learn-norms",
        action="store_true",
        help="batch normalisation goes on learning its statistics, as from random weights it must",
    )


def batch_options(p) -> None:
    """What becomes `blending.sampler.Settings`."""
    from deepfake_detection.blending.sampler import Settings

    usual = Settings()
    p.add_argument("--size", type=side, default=usual.size, metavar="PX", help="input side (default: %(default)s)")
    p.add_argument(
        "--wide",
        type=cli.fraction,
        default=usual.wide,
        metavar="PART",
        help="how often the wide window is shown; else a face ends at the brows and the chin (default: %(default)s)",
    )
    p.add_argument("--no-degrade", action="store_true", help="leave pictures as they are")
    p.add_argument(
        "--clips",
        type=cli.fraction,
        default=usual.clips,
        metavar="PART",
        help="how often a pair is also seen as a video at a low rate leaves it (default: %(default)s)",
    )
    p.add_argument("--no-live", action="store_true", help="make no blends like today's swaps")
    p.add_argument(
        "--without",
        action="append",
        default=[],
        metavar="SOURCE",
        help="leave a source of the index out (again for more)",
    )


def ship_options(p) -> None:
    p.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="where detector.keras, .onnx and .json are written (default: only train)",
    )
    p.add_argument(
        "--label", default="own", metavar="NAME", help="the detector's name in detector.json (default: %(default)s)"
    )
    p.add_argument("--label-version", default="1.0", metavar="X", help="and its version (default: %(default)s)")
    p.add_argument(
        "--window",
        choices=("tight", "both"),
        default="both",
        help="what it looks at: from the brows to the chin, or that and the whole outline (default: %(default)s)",
    )
    p.add_argument(
        "--interpolate",
        type=cli.fraction,
        default=1.0,
        metavar="PART",
        help="ship this part of the way from --weights to the run's end; 1 is its end (default: %(default)s)",
    )
    p.add_argument(
        "--head",
        type=cli.count,
        default=0,
        metavar="N",
        help="then fit the classifier anew, to all levels of the network, on N batches of fakes and their originals "
        "(default: %(default)s)",
    )
    p.add_argument(
        "--rim",
        type=cli.count,
        default=0,
        metavar="N",
        help="then fit what looks at the rim of faces against their surroundings, on N batches (default: %(default)s)",
    )
    p.add_argument(
        "--flicker", action="store_true", help="then fit how faces flicker from frame to frame, on the videos"
    )


def settings_of(options, shares: tuple):
    """The settings of the run. `shares`: of the sources, see `blending.recipe`."""
    from deepfake_detection.blending import sampler
    from deepfake_detection.training import pairs

    batches = sampler.Settings(
        size=options.size,
        wide=options.wide,
        degrade=not options.no_degrade,
        clips=options.clips,
        live=not options.no_live,
        without=tuple(options.without),
        shares=shares,
        seed=options.seed,
    )
    return pairs.Settings(
        architecture=options.architecture,
        weights=str(options.weights),
        steps=options.steps,
        stop_at=options.stop_at,
        learning_rate=options.learning_rate,
        ranking=options.ranking,
        consistency=options.consistency,
        centring=options.centring,
        worst=options.worst,
        freeze=options.freeze,
        freeze_norms=not options.learn_norms,
        batches=batches,
        seed=options.seed,
    )


def main(argv=None) -> int:
    options = parse(argv)
    cli.announce("train_detector", options)
    if (options.interpolate < 1 or not options.steps) and not Path(options.weights).is_file():
        # Asked before the training, not hours later.
        raise UserError(
            "--interpolate and --steps 0 need a file to begin at",
            file=options.weights,
            hint="--weights takes a .keras file of the same architecture",
        )
    if options.real_faces and not options.data:
        raise UserError("--real-faces goes with --data", file=options.index, hint="an index names such faces itself")

    from deepfake_detection.blending import recipe, sampler
    from deepfake_detection.files import folder_lock
    from deepfake_detection.training import flicker, pairs, rim

    made_of, run = recipe.read(options.recipe) if options.recipe else recipe.Recipe(), options.work / options.name
    ends_with_rim = bool(options.rim and options.out)
    pairs.refuse(settings_of(options, ()), whole=options.interpolate < 1, head=bool(options.head), rim=ends_with_rim)
    with folder_lock(options.work, "train_detector", "--work"):
        cut = cut_faces(options, made_of)
    train = sampler.trained_on(cut, options.without)
    settings = settings_of(options, recipe.shares_of(train, made_of.shares, options.without))
    around = rim.batches_of(settings.batches, cut) if ends_with_rim else None  # refused here, not hours later
    clips = flicker.clips_of(index_of(options), options.without) if options.flicker and options.out else None
    with folder_lock(run, "train_detector", "--name"):
        print(f"trained: {made(options, settings, around, clips, cut, run)}")
    return cli.EXIT_OK


def index_of(options) -> Path:
    """The index that is given, or is made of the folders."""
    return options.index or options.work / "index.csv"


def cut_faces(options, made_of):
    """The faces of the index, which is made of the folders where none is given."""
    from deepfake_detection.blending import faces, index
    from deepfake_detection.faces.detectors import DATA

    file = index_of(options)
    if not options.index:
        index.write(file, options.data, options.real_faces, layout=options.layout, seed=options.seed)
    yunet, sharp = DATA / "face_detection_yunet_2023mar.onnx", made_of.least_sharpness
    cut = faces.prepare(file, options.work, yunet, workers=options.workers, least_sharpness=sharp)
    if note := faces.left_out_note(file, options.work, options.without):
        print(f"note: {note}", file=sys.stderr)
    return cut


def made(options, settings, around, clips, cut, run: Path) -> Path:
    """The `.keras` file of the trained network, or of the detector in --out."""
    model = trained(options, settings, cut, run)
    if options.out:
        from deepfake_detection.export import ship
        from deepfake_detection.training import flicker

        model = ship.ship(
            model,
            cut,
            options.out,
            name=options.label,
            version=options.label_version,
            window=options.window,
            rim=rim_of(options, settings, around, model, run),
            flicker=None if clips is None else flicker.fit(clips),
            training=made_by(options, settings),
        )
    return model


def made_by(options, settings) -> dict:
    """What detector.json says of the training; of a network that stood still only what its classifier learnt from."""
    made = asdict(settings)
    if not options.steps:
        made = {key: made[key] for key in ("architecture", "steps", "batches", "seed")}
    shipped = {name: getattr(options, name) for name in ("interpolate", "head", "rim", "flicker")}
    return made | {"weights": Path(options.weights).name} | shipped


def trained(options, settings, cut, run: Path) -> Path:
    """The `.keras` file of the network that the options ask for."""
    from deepfake_detection.training import head, pairs

    start, model = Path(options.weights), Path(options.weights)
    if options.steps:
        with closing(pairs.Feed(options.work, settings.batches)) as feed:
            model = pairs.run(settings, feed, run, look_at(cut, run))
    if options.interpolate < 1:
        model = pairs.between(start, model, options.interpolate, run / "interpolated.keras")
    if options.head:
        with closing(
            pairs.Feed(options.work, head.batches_of(settings.batches, tight=options.window == "tight"))
        ) as feed:
            model = head.refit(model, settings.architecture, feed, options.head, run / "head.keras")
    return model


def rim_of(options, settings, around, model: Path, run: Path) -> Path | None:
    """The `.keras` file of the network that looks at the rim, fitted on batches as `around` says; None without it."""
    from deepfake_detection.training import pairs, rim

    if around is None:
        return None
    with closing(pairs.Feed(options.work, around)) as feed:
        return rim.fit(model, settings.architecture, feed, options.rim, run / "rim.keras")


def look_at(cut, run: Path):
    """What judges the network after every epoch; it leaves the scores in `looked.pkl`."""
    from deepfake_detection.training import judge

    rows = judge.rows_to_judge(cut, per_clip=4, tight_every=6)

    def look(network) -> dict:
        table = judge.clip_scores(network, cut, rows)
        table.to_pickle(run / "looked.pkl")
        row = judge.numbers(table)
        for view in judge.VIEWS:
            row |= {f"{view}_{name}": value for name, value in judge.numbers(table, f"z_{view}").items()}
        return row

    return look


if __name__ == "__main__":
    cli.run(main)
