"""This file says what an engine of one machine does for the dispatcher."""

from typing import Any, Protocol

from algorithmic_efficiency.errors import MeasurementError
from algorithmic_efficiency.launch.endings import Exit
from algorithmic_efficiency.launch.plan import Job
from algorithmic_efficiency.launch.slots import Slot


class EngineLost(MeasurementError):
  """The engine does not answer any more; what ran in it is not known."""


class CannotStart(Exception):
  """A job could not be started, for a reason that may hold for every job; one sentence."""


class Running(Protocol):
  """One started job."""

  facts: dict[str, Any]
  """What the record of the attempt keeps: pid or container."""

  def poll(self) -> Exit | None:
    """How it ended, or None while it runs. Raises EngineLost."""
    ...

  def ask_to_stop(self) -> None:
    """Sends SIGTERM; returns at once."""
    ...

  def kill(self) -> None:
    """Sends SIGKILL; returns at once."""
    ...

  def release(self) -> None:
    """Frees what it held, after its end: logs are whole, no container is left."""
    ...

  def abandon(self) -> None:
    """Lets go of it without asking the engine, which went away."""
    ...


class Engine(Protocol):
  """Starts jobs on this machine."""

  name: str

  def prepare(self) -> None:
    """Checks what can be checked before any job, and removes what an earlier launcher of this very
    plan left. Raises UsageError."""
    ...

  def command(self, job: Job, slot: Slot, attempt: int) -> str:
    """What starts the job, as a person would type it."""
    ...

  def start(self, job: Job, slot: Slot, attempt: int) -> Running:
    """Starts it. Raises CannotStart or EngineLost."""
    ...
