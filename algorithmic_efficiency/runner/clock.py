"""This file charges every second of a trial to exactly one account.

Only 'submission' is scored. The clock is monotonic. Work that a device has queued belongs to the
account that queued it: at each switch the clock waits for the device before it turns the page,
and between switches it never does.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Mapping


class Clock:
  """Accounts of seconds.

  Args:
    wait: returns when the device has finished all that was queued.
    now: a monotonic clock, in seconds.
    observe: called with the account whose stretch has just ended, the device being idle; never
      while the time is the submission's.
  """

  def __init__(
    self,
    wait: Callable[[], None],
    now: Callable[[], float] = time.perf_counter,
    observe: Callable[[str], None] = lambda account: None,
  ) -> None:
    self._wait = wait
    self._now = now
    self._observe = observe
    self._spent: dict[str, float] = {}
    self._stack = ['setup']
    self._since = self._start = now()

  def take_up(self, accounts: Mapping[str, float]) -> None:
    """Adds what an earlier process has charged; the total counts from its beginning."""
    for account, seconds in accounts.items():
      self._spent[account] = self._spent.get(account, 0.0) + seconds
      self._start -= seconds

  @contextlib.contextmanager
  def charge(self, account: str) -> Generator[None, None, None]:
    """Charges the time within to `account`, and none of it to the account around."""
    before = self._stack[-1]
    scored = account == 'submission'
    if scored:
      self._observe(before)
    self._turn()
    self._stack.append(account)
    try:
      if not scored:
        self._observe(before)
      yield
      if not scored:
        self._wait()
        self._observe(account)
      self._turn()
    except BaseException:
      self._turn(wait=False)  # a device that failed, or a user who wants to stop, is not waited for
      raise
    finally:
      self._stack.pop()
    if scored:
      self._observe(account)

  def seconds(self, account: str) -> float:
    """Charged to `account` so far, the running stretch included; does not wait for the device."""
    spent = self._spent.get(account, 0.0)
    return spent + self._now() - self._since if self._stack[-1] == account else spent

  def settled_seconds(self, account: str) -> float:
    """The same, after waiting for the device."""
    self._turn()
    return self.seconds(account)

  def total_seconds(self) -> float:
    """Since the clock was made: the sum of all accounts."""
    return self._now() - self._start

  def accounts(self) -> dict[str, float]:
    """Every account's seconds up to the last turn."""
    return dict(self._spent)

  def _turn(self, wait: bool = True) -> None:
    if wait:
      self._wait()
    now = self._now()
    account = self._stack[-1]
    self._spent[account] = self._spent.get(account, 0.0) + now - self._since
    self._since = now
