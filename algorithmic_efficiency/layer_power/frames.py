"""This file names what passes between the modules of this room: a pandas DataFrame.

For the type checker it is anything: by its own annotations nearly every selection from a DataFrame
may also be a Series.
"""

from typing import Any

Frame = Any
