"""Another name of algorithmic_efficiency, for submissions and scripts that import `algoperf`."""

import sys

import algorithmic_efficiency
from algorithmic_efficiency.submissions import upstream_names

upstream_names.install()
sys.modules[__name__] = algorithmic_efficiency
