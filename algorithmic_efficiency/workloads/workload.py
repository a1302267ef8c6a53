"""This file is the workload a submission is handed: facts, data, metrics, model, framework in one.

Written once for every workload and both frameworks.
"""

import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from algorithmic_efficiency import spec
from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records import columns
from algorithmic_efficiency.workloads import in_memory, registry, synthetic
from algorithmic_efficiency.workloads.facts import NEWEST_EDITION, Facts

SPLITS = {'eval_train': 'train', 'validation': 'validation', 'test': 'test'}  # split to prefix

_WRAPPERS = re.compile(r'^(module\.|_orig_mod\.)+')  # what PyTorch puts before parameters' names


def _seed_of(rng: Any) -> int:
  """A number from a key of either framework, or from an int."""
  return rng if isinstance(rng, int) else int(np.asarray(rng).ravel()[-1])


def _fact(name: str) -> Any:
  """A property read from the facts, once: some are asked for at every step."""
  return _once(name, lambda self: getattr(self.facts, name))


def _granted(name: str) -> Any:
  """A property that the edition grants."""
  return _once(name, lambda self: getattr(self.facts.budgets[self.edition], name))


def _counted(name: str) -> Any:
  """A number of examples: what the data turns out to have, where the pipeline counts it."""
  return _once(name, lambda self: self._counts.get(name, getattr(self.facts, name)))


def _once(name: str, read: Callable[[Any], Any]) -> Any:
  found = functools.cached_property(read)
  found.__doc__ = getattr(spec.Workload, name).__doc__
  found.__set_name__(None, name)  # type: ignore[arg-type]
  return found


class Workload(spec.Workload):
  """A workload on a framework.

  Args:
    found: the workload's facts and folder.
    framework: frameworks.on_jax or frameworks.on_pytorch.
    edition: whose budgets hold.
    data_dir: where the data lies or is to be downloaded to.
    synthetic_seed: draws synthetic data from this seed instead of reading any.
    compiled: hands the model out compiled, where the framework does that.
  """

  loss_type = _fact('loss_type')
  target_metric_name = _fact('target_metric_name')
  validation_target_value = _fact('validation_target_value')
  test_target_value = _fact('test_target_value')
  num_train_examples = _counted('num_train_examples')
  num_eval_train_examples = _counted('num_eval_train_examples')
  num_validation_examples = _counted('num_validation_examples')
  num_test_examples = _counted('num_test_examples')
  train_mean = _fact('train_mean')
  train_stddev = _fact('train_stddev')
  max_allowed_runtime_sec = _granted('max_allowed_runtime_sec')
  eval_period_time_sec = _granted('eval_period_time_sec')
  step_hint = _granted('step_hint')

  def __init__(
    self,
    found: registry.Found,
    framework: Any,
    edition: str = NEWEST_EDITION,
    data_dir: Path | None = None,
    synthetic_seed: int | None = None,
    compiled: bool = False,
  ) -> None:
    self.facts: Facts = found.facts
    self.edition = edition
    self._eval_batch_size = self.facts.eval_batch_size
    self.metrics_logger = None
    self._framework = framework
    self._pipeline = found.part('input_pipeline')
    self._metrics = found.part('metrics')
    self._models = found.part(f'model_{framework.NAME}')
    self._model = self._models.build_model(self.facts)
    self._data_dir = data_dir
    self._synthetic_seed = synthetic_seed
    self._compiled = compiled
    self._dropout_rate = self.facts.dropout_rate
    self._data: dict[str, in_memory.Arrays] = {}
    self._eval_batches: dict[tuple[str, int], list[in_memory.Batch]] = {}
    self._param_shapes: Any = None
    self._param_types: Any = None

  @property
  def eval_batch_size(self) -> int:
    """Examples in a batch of an evaluation, over all devices; a submission may ask for another."""
    return self._eval_batch_size

  @eval_batch_size.setter
  def eval_batch_size(self, size: int) -> None:
    self._eval_batch_size = size

  @property
  def name(self) -> str:
    """As the command takes it, without the framework."""
    return self.facts.name

  @property
  def target_value(self) -> float:
    """The validation target, under the name that records have always had."""
    return self.facts.validation_target_value

  @property
  def num_eval_examples(self) -> int:
    """The validation examples, under the name that records have always had."""
    return self.num_validation_examples

  @property
  def param_shapes(self) -> Any:
    """A tree shaped like the parameters, its leaves ShapeTuple. ValueError before init_model_fn."""
    if self._param_shapes is None:
      raise ValueError('param_shapes is known once init_model_fn has been called.')
    return self._param_shapes

  @property
  def model_params_types(self) -> Any:
    """The same tree with ParameterType leaves. ValueError before init_model_fn."""
    if self._param_types is None:
      raise ValueError('model_params_types is known once init_model_fn has been called.')
    return self._param_types

  def properties(self) -> dict[str, Any]:
    """Every simple property, for records: a number, a text, a flag, or a tuple of them."""
    kinds = (property, functools.cached_property)
    names = [n for n in dir(type(self)) if isinstance(getattr(type(self), n), kinds)]
    left_out = {'param_shapes', 'model_params_types', 'loss_type', 'name'}
    values = {n: getattr(self, n) for n in sorted(names) if n not in left_out and n[0] != '_'}
    values['loss_type'] = self.facts.loss_name or self.loss_type.name
    return {n: v for n, v in values.items() if columns.primitive(v)}

  def has_reached_validation_target(self, eval_result: Mapping[str, float]) -> bool:
    """Whether the validation target is met; equality counts, as it does in scoring."""
    return self._reached(eval_result, 'validation', self.validation_target_value)

  def has_reached_test_target(self, eval_result: Mapping[str, float]) -> bool:
    """Whether the test target is met; a workload without one has nothing to reach."""
    return self._reached(eval_result, 'test', self.test_target_value)

  def is_output_params(self, param_key: spec.ParameterKey) -> bool:
    """Whether this parameter belongs to the layer that makes the logits."""
    key = _WRAPPERS.sub('', param_key) if isinstance(param_key, str) else param_key
    return key in self._models.OUTPUT_PARAMS

  def init_model_fn(
    self, rng: Any, dropout_rate: float | None = None, aux_dropout_rate: float | None = None
  ) -> tuple[Any, Any]:
    """(parameters, model state); weights drawn from `rng`, a key of this framework or an int.

    `dropout_rate` holds from here on wherever `model_fn` is given none; None for the workload's
    own. No model here has a second kind of dropout for `aux_dropout_rate` to set.
    """
    del aux_dropout_rate
    self._dropout_rate = self.facts.dropout_rate if dropout_rate is None else dropout_rate
    seed = _seed_of(rng) % 2**32
    example = np.zeros((1, *self.facts.input_shape), np.float32)
    params, model_state = self._framework.init(self._model, example, seed)
    self._param_shapes = self._framework.param_shapes(params)
    self._param_types = self._framework.param_types(params)
    return self._framework.wrap(params, model_state, self._compiled)

  def model_fn(
    self,
    params: Any,
    augmented_and_preprocessed_input_batch: dict[str, Any],
    model_state: Any,
    mode: spec.ForwardPassMode,
    rng: Any,
    update_batch_norm: bool,
    dropout_rate: float | None = None,
    use_running_average_bn: bool | None = None,
  ) -> tuple[Any, Any]:
    """The forward pass: (logits, new model_state)."""
    return self._framework.apply(
      self._model,
      params,
      augmented_and_preprocessed_input_batch['inputs'],
      model_state,
      mode,
      rng,
      update_batch_norm,
      self._dropout_rate if dropout_rate is None else dropout_rate,
      use_running_average_bn,
    )

  def loss_fn(
    self,
    label_batch: Any,
    logits_batch: Any,
    mask_batch: Any | None = None,
    label_smoothing: float = 0.0,
  ) -> dict[str, Any]:
    """{'summed': scalar, 'n_valid_examples': scalar, 'per_example': [batch]}."""
    kind = self.facts.loss_name or self.loss_type
    return self._framework.loss(kind, label_batch, logits_batch, mask_batch, label_smoothing)

  def output_activation_fn(self, logits_batch: Any, framework: Any = None) -> Any:
    """Probabilities (or predictions) from logits, by the loss type."""
    del framework  # upstream's argument; the logits are this workload's framework's
    return self._framework.activate(self.loss_type, logits_batch)

  def training_queue(self, seed: int, batch_size: int, start: int = 0) -> Iterator[Any]:
    """Endless placed training batches, from batch `start` on; of each, this process's rows."""
    rows = self._rows(batch_size)
    batches = in_memory.training_batches(self.load('train'), batch_size, seed, start, rows)
    if hasattr(self._pipeline, 'augment'):
      batches = in_memory.augmented(batches, batch_size, seed, start, rows, self)
    return self._framework.place_all(batches)

  def draw_augmentation(self, generator: np.random.Generator, batch_size: int) -> in_memory.Batch:
    """What a training batch is changed by: arrays with an entry per example."""
    return self._pipeline.draw_augmentation(generator, batch_size)

  def augment(self, batch: in_memory.Batch, drawn: in_memory.Batch) -> in_memory.Batch:
    """A training batch, changed by what was drawn."""
    return self._pipeline.augment(self.facts, batch, drawn)

  def evaluate(self, params: Any, model_state: Any) -> dict[str, float]:
    """Metrics on all splits: 'train/loss', 'validation/accuracy', …, 'validation/num_examples'.

    Several processes share the examples; each gets the metrics of all.
    """
    params, model_state = self._framework.unwrap(params, model_state)
    results: dict[str, float] = {}
    for split, prefix in SPLITS.items():
      if self._num_examples(split) is None:
        continue
      sums: dict[str, float] = {'num_examples': 0.0}
      for batch in self._evaluation_batches(split):
        placed = self._framework.place(batch)
        logits, losses = self._predict(params, model_state, placed)
        weights = batch['weights']
        found = self._metrics.summed_metrics(logits, batch['targets'], losses, weights)
        for name, value in found.items():
          sums[name] = sums.get(name, 0.0) + value
        sums['num_examples'] += float(weights.sum())
      totals = self._framework.processes.gather(list(sums.values())).sum(axis=0)
      sums = dict(zip(sums, totals.tolist(), strict=True))
      count = sums.pop('num_examples')
      results.update({f'{prefix}/{name}': value / count for name, value in sums.items()})
      results[f'{prefix}/num_examples'] = int(count)
    return results

  def halve_eval_batch_size(self) -> bool:
    """Evaluates with half as many examples at a time from now on; False if there is one a device.

    For a machine without the memory; the metrics are the same.
    """
    smaller = self._padded(self.eval_batch_size // 2)
    if not 0 < smaller < self.eval_batch_size:
      return False
    self.eval_batch_size = smaller
    self._eval_batches.clear()
    return True

  def load(self, split: str) -> in_memory.Arrays:
    """The arrays of a split, read once. Raises UsageError where the data is missing or broken."""
    if split not in self._data:
      count = self._num_examples(split)
      if count is None:
        raise UsageError(f'Workload {self.name!r} has no {split} split.')
      if self._synthetic_seed is not None:
        arrays = synthetic.split(self.facts, split, count, self._synthetic_seed)
      else:
        arrays = self._pipeline.load(self.facts, split, self._data_dir)
      self._data[split] = arrays
    return self._data[split]

  def data_source(self) -> str:
    """Where the loaded data came from; 'synthetic' where it was drawn."""
    if self._synthetic_seed is not None:
      return 'synthetic'
    return self._pipeline.source(self._data_dir)

  def _build_input_queue(
    self,
    data_rng: Any,
    split: str,
    data_dir: str,
    global_batch_size: int,
    cache: bool | None = None,
    repeat_final_dataset: bool | None = None,
    num_batches: int | None = None,
  ) -> Iterator[dict[str, Any]]:
    """Upstream's name for training_queue, and for the evaluation batches of the other splits."""
    del data_dir, cache
    if split == 'train':
      queue = self.training_queue(_seed_of(data_rng) % 2**32, global_batch_size)
      yield from itertools.islice(queue, num_batches)
      return
    rows = self._rows(global_batch_size)
    while True:
      batches = in_memory.evaluation_batches(self.load(split), global_batch_size, rows)
      yield from map(self._framework.place, batches[:num_batches])
      if not repeat_final_dataset:
        return

  @functools.cached_property
  def _predict(self) -> Any:
    """(logits, per-example losses) of a batch, compiled once."""

    def predict(params: Any, model_state: Any, batch: Any) -> tuple[Any, Any]:
      logits, _ = self.model_fn(params, batch, model_state, spec.ForwardPassMode.EVAL, None, False)
      return logits, self.loss_fn(batch['targets'], logits, batch['weights'])['per_example']

    return self._framework.predictor(predict)

  def _evaluation_batches(self, split: str) -> list[in_memory.Batch]:
    key = (split, self.eval_batch_size)
    if key not in self._eval_batches:
      size = self._padded(min(self.eval_batch_size, len(self.load(split)['targets'])))
      self._eval_batches[key] = in_memory.evaluation_batches(
        self.load(split), size, self._rows(size)
      )
    return self._eval_batches[key]

  def _rows(self, batch_size: int) -> slice:
    """This process's rows of a batch."""
    processes = self._framework.processes
    return in_memory.rows_of(processes.index(), processes.count(), batch_size)

  def _padded(self, count: int) -> int:
    devices = self._framework.num_devices()
    return -(-count // devices) * devices

  def _num_examples(self, split: str) -> int | None:
    return getattr(self, f'num_{split}_examples')

  @functools.cached_property
  def _counts(self) -> Mapping[str, int]:
    """Numbers of examples that are not the facts' but those of the data. Raises UsageError."""
    if self._synthetic_seed is not None or not hasattr(self._pipeline, 'count_examples'):
      return {}
    return self._pipeline.count_examples(self.facts, self._data_dir)

  def _reached(self, result: Mapping[str, float], prefix: str, target: float | None) -> bool:
    if target is None:
      return True
    value = result[f'{prefix}/{self.target_metric_name}']
    return value <= target if self.facts.lower_is_better else value >= target
