"""Data-parallel training: several devices of one machine (`mirrored`) or several machines (`multi_worker`).

Both split every global batch over the replicas, sum their gradients and so take the step that one device would take
with the whole batch; batch normalisation takes its mean and variance over all replicas. Keras 3 can run `fit` under
MirroredStrategy. Under MultiWorkerMirroredStrategy it cannot (its per-replica reduction fails), so that one has its own
training step here, on TensorFlow's public tf.distribute calls; optimizer, model and everything between the epochs are
the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from collections.abc import Mapping

from ..errors import UserError

STRATEGIES = ("none", "mirrored", "multi_worker")

#: Port of the first worker on a host when the cluster is derived from Slurm.
SLURM_PORT = 18888


def prepare(name: str, replicas: int | None = None) -> None:
    """What has to be set before TensorFlow starts: the cluster, and logical devices on a machine without GPU.

    Args:
        name: one of STRATEGIES.
        replicas: for `mirrored` without a GPU: how many logical CPU devices. It shows that the machinery works; it is
            not faster.

    Raises:
        UserError: `multi_worker` without a cluster.
    """
    if name == "multi_worker":
        if "TF_CONFIG" not in os.environ:
            os.environ["TF_CONFIG"] = json.dumps(config_from_slurm(os.environ))
        check_config(os.environ["TF_CONFIG"])
    if name == "mirrored" and replicas and replicas > 1:
        import tensorflow as tf

        if not tf.config.list_physical_devices("GPU"):
            cpu = tf.config.list_physical_devices("CPU")[0]
            try:
                tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
            except RuntimeError:
                raise UserError(
                    "TensorFlow is already running, too late for logical devices", hint="start a new process"
                ) from None


def make(name: str):
    """The tf.distribute strategy, or None for `none`. Call `prepare` first.

    Raises:
        UserError: when the other workers cannot be reached.
    """
    import tensorflow as tf

    if name == "none":
        return None
    if name == "mirrored":
        gpus = tf.config.list_logical_devices("GPU")
        cpus = tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([d.name for d in gpus or cpus])
    else:
        try:
            strategy = tf.distribute.MultiWorkerMirroredStrategy()
        except (tf.errors.UnavailableError, tf.errors.DeadlineExceededError, tf.errors.UnknownError) as e:
            raise UserError(
                f"the other workers cannot be reached ({str(e).splitlines()[0][:120]})",
                hint="start the same command on every worker",
            ) from None
    devices = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    print(f"{name}: {strategy.num_replicas_in_sync} replicas on {devices}", file=sys.stderr)
    return strategy


def is_chief() -> bool:
    """Whether this process is the one that writes: worker 0, or the only process."""
    config = json.loads(os.environ.get("TF_CONFIG") or "{}")
    task, cluster = config.get("task", {}), config.get("cluster", {})
    return task.get("type") == "chief" or task.get("index", 0) == 0 and "chief" not in cluster


def check_config(text: str) -> dict:
    """TF_CONFIG as a dictionary.

    Raises:
        UserError: not JSON, no workers, or a task that is not in the cluster.
    """
    hint = 'e.g. {"cluster": {"worker": ["10.0.0.1:12345", "10.0.0.2:12345"]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text)
        hosts, index = config["cluster"][config["task"]["type"]], config["task"]["index"]
    except (ValueError, KeyError, TypeError):
        raise UserError("the environment variable TF_CONFIG does not describe a cluster", hint=hint) from None
    if not isinstance(hosts, list) or not 0 <= int(index) < len(hosts):
        raise UserError(f"TF_CONFIG: task {index} is not in the cluster of {len(hosts)}", hint=hint)
    return config


def config_from_slurm(environment: Mapping[str, str]) -> dict:
    """TF_CONFIG from the variables that `srun` sets: one worker a task, ports from SLURM_PORT on, counted on each host.

    Not TensorFlow's `SlurmClusterResolver`: it sorts hosts as text, so that on n[9-10] each would take the other's
    address (tests/training shows it).

    Raises:
        UserError: when they are not there.
    """
    try:
        hosts = expand_hosts(environment.get("SLURM_STEP_NODELIST") or environment["SLURM_JOB_NODELIST"])
        per_host = expand_counts(environment.get("SLURM_STEP_TASKS_PER_NODE") or environment["SLURM_TASKS_PER_NODE"])
        index = int(environment["SLURM_PROCID"])
    except (KeyError, ValueError):
        raise UserError(
            "--strategy multi_worker finds no cluster",
            hint="set TF_CONFIG on every worker, or start through Slurm's srun",
        ) from None
    if len(per_host) != len(hosts):
        raise UserError(
            f"Slurm names {len(hosts)} hosts and task counts for {len(per_host)}", hint="set TF_CONFIG instead"
        )
    workers = [f"{host}:{SLURM_PORT + task}" for host, count in zip(hosts, per_host) for task in range(count)]
    return {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}


def expand_hosts(text: str) -> list[str]:
    """Slurm's compressed host list: `a[1-2,05],b` -> a1, a2, a05, b (numbers keep their zeros)."""
    hosts = []
    for part in re.findall(r"[^,\[]+(?:\[[^\]]*\][^,\[]*)*", text):
        names = [""]
        for plain, ranges in re.findall(r"([^\[\]]+)|\[([^\]]*)\]", part):
            ends = [plain] if plain else []
            for item in ranges.split(",") if ranges else []:
                low, _, high = item.partition("-")
                ends += [str(n).zfill(len(low)) for n in range(int(low), int(high or low) + 1)]
            names = [name + end for name in names for end in ends]
        hosts += names
    return hosts


def expand_counts(text: str) -> list[int]:
    """Slurm's compressed task counts: `2(x3),1` -> 2, 2, 2, 1."""
    counts = []
    for part in text.split(","):
        match = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part.strip())
        if not match:
            raise ValueError(part)
        counts += [int(match[1])] * int(match[2] or 1)
    return counts


def shard_of(strategy) -> tuple[int, int]:
    """(index, count) of this process' part of every global batch; (0, 1) where one process sees all of it."""
    import tensorflow as tf

    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    spec = resolver.cluster_spec().as_dict()
    order = [(kind, i) for kind in ("chief", "worker") for i in range(len(spec.get(kind, [])))]
    return order.index((resolver.task_type, resolver.task_id)), len(order)


def synchronize_batch_norm(model) -> None:
    """Takes the statistics of batch normalisation over all replicas, not of each one's smaller batch."""
    import keras

    from ..models.weights import leaf_layers

    for layer in leaf_layers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.synchronized = True


class TrainStep:
    """One epoch under a strategy that Keras' own `fit` cannot run.

    Each replica computes the loss of its rows divided by the global batch size; `optimizer.apply_gradients` sums over
    the replicas.
    """

    def __init__(self, strategy, model, optimizer, loss, global_batch: int):
        """
        Args:
            loss: a Keras loss with reduction "none".
            global_batch: rows of all replicas together.
        """
        import tensorflow as tf

        self.strategy, self._global_batch = strategy, global_batch

        def replica(x, y, weight=None):
            with tf.GradientTape() as tape:
                p = model(x, training=True)
                each = loss(y, p)
                if weight is not None:
                    each *= tf.reshape(weight, (-1,))
                value = tf.reduce_sum(each) / global_batch
                scaled = optimizer.scale_loss(value)
            variables = model.trainable_variables
            optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables))
            return value, tf.reduce_sum(tf.cast((p >= 0.5) == (y >= 0.5), tf.float32)) / global_batch

        @tf.function
        def step(columns):
            value, right = strategy.run(replica, args=columns)
            return strategy.reduce("SUM", value, axis=None), strategy.reduce("SUM", right, axis=None)

        self._step = step

    def epoch(self, data, bar) -> dict:
        """Goes through `data`, this process' share of each global batch; returns the mean loss and accuracy."""
        local_replicas = self.strategy.num_replicas_in_sync // shard_of(self.strategy)[1]
        if local_replicas > 1:
            data = data.rebatch(self._global_batch // self.strategy.num_replicas_in_sync, drop_remainder=True)
        distributed = self.strategy.distribute_datasets_from_function(lambda context: data)
        losses, accuracies = [], []
        bar.on_train_begin()
        for i, columns in enumerate(distributed):
            value, right = self._step(columns)
            losses.append(float(value))
            accuracies.append(float(right))
            bar.on_train_batch_end(i, {"loss": losses[-1]})
        bar.on_train_end()
        return {"loss": sum(losses) / len(losses), "accuracy": sum(accuracies) / len(accuracies)}


def from_chief(strategy, values: dict) -> dict:
    """The chief's numbers on every worker, all of which must call it, so that all decide alike."""
    import tensorflow as tf

    keys = sorted(values)
    # Every replica of the chief sends the numbers, and all others 0: the sum is then divided by the chief's replicas.
    sent = tf.constant([values[k] if is_chief() else 0.0 for k in keys], tf.float64)
    each = sent * shard_of(strategy)[1] / strategy.num_replicas_in_sync
    summed = strategy.run(lambda: tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, each))
    return {k: float(v) for k, v in zip(keys, strategy.experimental_local_results(summed)[0].numpy())}


def is_multi_worker(strategy) -> bool:
    """Whether Keras' own `fit` cannot run under this strategy."""
    return strategy is not None and shard_of(strategy)[1] > 1


def scope(strategy):
    """`strategy.scope()`, or nothing for None."""
    return strategy.scope() if strategy is not None else contextlib.nullcontext()
