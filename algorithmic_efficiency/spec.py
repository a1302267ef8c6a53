"""The submission API: the types a training algorithm imports and the workload it is handed.

The names and values are fixed from outside (AlgoPerf's submissions rely on them); add, never
rename. This file imports no framework: a type that belongs to one is described in words.
"""

import abc
import enum
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class LossType(enum.Enum):
  """The loss a workload is trained with."""

  SOFTMAX_CROSS_ENTROPY = 0
  SIGMOID_CROSS_ENTROPY = 1
  MEAN_SQUARED_ERROR = 2
  CTC_LOSS = 3
  MEAN_ABSOLUTE_ERROR = 4


class ForwardPassMode(enum.Enum):
  """Whether a forward pass trains or evaluates (dropout, batch statistics)."""

  TRAIN = 0
  EVAL = 1


class ParameterType(enum.Enum):
  """What a parameter tensor is, for algorithms that treat kinds differently."""

  WEIGHT = 0
  BIAS = 1
  CONV_WEIGHT = 2
  BATCH_NORM_SCALE = 3
  BATCH_NORM_BIAS = 4
  LAYER_NORM_SCALE = 5
  LAYER_NORM_BIAS = 6
  EMBEDDING = 7
  ATTENTION_Q = 8
  ATTENTION_K = 9
  ATTENTION_V = 10
  ATTENTION_OUT = 11
  ATTENTION_QKV = 12
  ATTENTION_KV = 13
  ATTENTION_BIAS = 14


class TrainingCompleteError(Exception):
  """Raised by `update_params` to end training; one last evaluation follows, off the clock."""


class ShapeTuple:
  """A shape as a leaf: JAX's tree functions do not descend into it as they would into a tuple.

  Attributes:
    shape_tuple: the sizes, one int per dimension.
  """

  def __init__(self, shape_tuple: tuple[int, ...]) -> None:
    self.shape_tuple = shape_tuple

  def __repr__(self) -> str:
    return f'ShapeTuple({self.shape_tuple})'

  def __eq__(self, other: object) -> bool:
    return isinstance(other, ShapeTuple) and self.shape_tuple == other.shape_tuple

  __hash__ = None  # type: ignore[assignment]  # as upstream has it: compared, never a key


# Names for annotations. `Tensor` is a jax.Array or a torch.Tensor, whichever the run uses.
Tensor = Any
Shape = tuple[int, ...] | tuple[int, int, int, int] | ShapeTuple
ParameterKey = str
ParameterShapeTree = dict[str, Any]  # nested dicts down to ShapeTuple
ParameterTypeTree = dict[ParameterKey, Any]  # nested dicts down to ParameterType
ParameterContainer = Any  # JAX: nested dicts of arrays; PyTorch: the torch.nn.Module
RandomState = Any  # JAX: a PRNG key; PyTorch: a pair of ints, rng[0] seeds
OptimizerState = dict[str, Any] | tuple[Any, Any]
Hyperparameters = Any  # a namedtuple, or None under self-tuning
Timing = float
Steps = int
ModelAuxiliaryState = Any
ModelInitState = tuple[ParameterContainer, ModelAuxiliaryState]
UpdateReturn = tuple[OptimizerState, ParameterContainer, ModelAuxiliaryState]
InitOptimizerFn = Callable[
  [ParameterContainer, ModelAuxiliaryState, Hyperparameters, RandomState], OptimizerState
]
UpdateParamsFn = Callable[..., UpdateReturn]
PrepareForEvalFn = Callable[..., UpdateReturn]
DataSelectionFn = Callable[..., dict[str, Tensor]]


class Workload(abc.ABC):
  """A model, its data and its target, as a submission sees them.

  Hashable by identity, so that a submission may make it a static argument of a compiled function.
  """

  metrics_logger: Any = None  # or an object with append_scalar_metrics(dict, global_step)

  @property
  @abc.abstractmethod
  def target_metric_name(self) -> str:
    """The metric whose target ends training, such as 'accuracy'."""

  @property
  @abc.abstractmethod
  def validation_target_value(self) -> float:
    """The value of the target metric to reach on the validation split."""

  @property
  @abc.abstractmethod
  def test_target_value(self) -> float | None:
    """The value of the target metric to reach on the test split; None where there is none."""

  @abc.abstractmethod
  def has_reached_validation_target(self, eval_result: Mapping[str, float]) -> bool:
    """Whether 'validation/<target metric>' of an evaluation meets the target."""

  @abc.abstractmethod
  def has_reached_test_target(self, eval_result: Mapping[str, float]) -> bool:
    """Whether 'test/<target metric>' of an evaluation meets the target."""

  @property
  @abc.abstractmethod
  def loss_type(self) -> LossType:
    """The loss the workload is trained with."""

  @property
  @abc.abstractmethod
  def num_train_examples(self) -> int:
    """Examples in the training split."""

  @property
  @abc.abstractmethod
  def num_eval_train_examples(self) -> int:
    """Examples of the training split that evaluations look at."""

  @property
  @abc.abstractmethod
  def num_validation_examples(self) -> int:
    """Examples in the validation split."""

  @property
  @abc.abstractmethod
  def num_test_examples(self) -> int | None:
    """Examples in the test split; None where there is none."""

  @property
  @abc.abstractmethod
  def eval_batch_size(self) -> int:
    """Examples in one batch of an evaluation, over all devices."""

  @property
  @abc.abstractmethod
  def train_mean(self) -> Any:
    """The mean the inputs were normalised with, in the units of the raw data."""

  @property
  @abc.abstractmethod
  def train_stddev(self) -> Any:
    """The standard deviation the inputs were normalised with."""

  @property
  @abc.abstractmethod
  def max_allowed_runtime_sec(self) -> float:
    """The budget of submission time under external tuning, in seconds."""

  @property
  @abc.abstractmethod
  def eval_period_time_sec(self) -> float:
    """Seconds of submission time between evaluations."""

  @property
  @abc.abstractmethod
  def step_hint(self) -> int:
    """Steps the reference algorithm takes to the target: what schedules are laid out for."""

  @property
  @abc.abstractmethod
  def param_shapes(self) -> ParameterShapeTree:
    """A tree shaped like the parameters, its leaves ShapeTuple. ValueError before init_model_fn."""

  @property
  @abc.abstractmethod
  def model_params_types(self) -> ParameterTypeTree:
    """The same tree with ParameterType leaves. ValueError before init_model_fn."""

  @abc.abstractmethod
  def is_output_params(self, param_key: ParameterKey) -> bool:
    """Whether this parameter belongs to the layer that makes the logits."""

  @abc.abstractmethod
  def init_model_fn(
    self,
    rng: RandomState,
    dropout_rate: float | None = None,
    aux_dropout_rate: float | None = None,
  ) -> ModelInitState:
    """Builds the model with weights drawn from `rng`.

    `dropout_rate` then holds wherever `model_fn` is given none (API before 0.6.0).
    """

  @abc.abstractmethod
  def model_fn(
    self,
    params: ParameterContainer,
    augmented_and_preprocessed_input_batch: dict[str, Tensor],
    model_state: ModelAuxiliaryState,
    mode: ForwardPassMode,
    rng: RandomState,
    update_batch_norm: bool,
    dropout_rate: float | None = None,
    use_running_average_bn: bool | None = None,
  ) -> tuple[Tensor, ModelAuxiliaryState]:
    """The forward pass: (logits, new model_state).

    Args:
      params: as `init_model_fn` gave them, or updated.
      augmented_and_preprocessed_input_batch: {'inputs', …}, a batch of the input queue.
      model_state: batch statistics in JAX; None where a model has none.
      mode: TRAIN drops out and normalises by the batch.
      rng: a key for dropout; may be None in evaluation.
      update_batch_norm: whether the batch statistics are brought up to date.
      dropout_rate: from 0 to 1; None for the workload's own.
      use_running_average_bn: normalises by the running statistics (True) or by the batch (False),
        whatever the mode; None leaves it to the mode.
    """

  @abc.abstractmethod
  def loss_fn(
    self,
    label_batch: Tensor,
    logits_batch: Tensor,
    mask_batch: Tensor | None = None,
    label_smoothing: float = 0.0,
  ) -> dict[str, Tensor]:
    """{'summed': scalar, 'n_valid_examples': scalar, 'per_example': [batch]}; no regularisation."""

  @abc.abstractmethod
  def output_activation_fn(self, logits_batch: Tensor, framework: Any) -> Tensor:
    """Probabilities (or predictions) from logits, by the loss type."""

  @abc.abstractmethod
  def _build_input_queue(
    self,
    data_rng: RandomState,
    split: str,
    data_dir: str,
    global_batch_size: int,
    cache: bool | None = None,
    repeat_final_dataset: bool | None = None,
    num_batches: int | None = None,
  ) -> Iterator[dict[str, Tensor]]:
    """Batches of a split: {'inputs', 'targets'[, 'weights']}."""
