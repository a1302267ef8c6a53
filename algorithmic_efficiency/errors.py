"""The errors that are told to a user in one line, without a traceback.

  Exception
  ├── UsageError         the command, a file or a folder it names is wrong: exit code 2
  │   └── ToldByTheFirst the same, in a process that leaves the telling to the first
  ├── SubmissionError    the submission raised while it trained: its trial failed
  └── MeasurementError   the bench itself could not measure or record: exit code 1

Each message is one sentence that says what is wrong, the value, what is allowed, and what to do.
"""

import difflib
from collections.abc import Iterable


class UsageError(Exception):
  """Something the user can mend before the run starts."""


class ToldByTheFirst(UsageError):
  """Something that the first of several processes tells the user."""


class SubmissionError(Exception):
  """The training algorithm failed; the trial ends as failed and the next one goes on."""


class MeasurementError(Exception):
  """A record could not be made, for example because the disk is full."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
  """A sentence for a name that does not exist, with the nearest one that does.

  >>> unknown_name('workload', 'mnst', ['digits', 'mnist'])
  "No workload is called 'mnst'; did you mean 'mnist'? There are: digits, mnist."
  """
  known = sorted(known)
  near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
  hint = f'; did you mean {near[0]!r}?' if near else '.'
  return f'No {kind} is called {name!r}{hint} There are: {", ".join(known)}.'
