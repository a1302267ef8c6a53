"""Keeps a Ray cluster of two nodes with a core each, until its input ends.

It prints the address, then does what each line says: 'remove' takes a node away as a power cut
does, 'end' the whole cluster.
"""

import os
import sys

os.environ.update(
  {
    'RAY_USAGE_STATS_ENABLED': '0',
    # Else a node that is gone is missed after half a minute only.
    'RAY_health_check_period_ms': '1000',
    'RAY_health_check_failure_threshold': '3',
  }
)

from ray.cluster_utils import Cluster

SMALL = {'num_cpus': 1, 'object_store_memory': 80 << 20, 'include_dashboard': False}


def main() -> None:
  cluster = Cluster(initialize_head=True, head_node_args=SMALL)
  other = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
  print(cluster.address, flush=True)
  try:
    for line in sys.stdin:
      if line.strip() == 'remove':
        cluster.remove_node(other, allow_graceful=False)
        print('removed', flush=True)
      elif line.strip() == 'end':
        cluster.shutdown()
        print('ended', flush=True)
  finally:
    cluster.shutdown()


if __name__ == '__main__':
  main()
