"""This file lists the columns of the tables that are made of traces, with their units.

`python -m algorithmic_efficiency.profiling.columns` prints KERNELS.md, for people.
"""

import sys
from typing import NamedTuple


class Column(NamedTuple):
  """A column: its name, its type ('number', 'string', 'boolean'), what it holds."""

  name: str
  type: str
  meaning: str


WHERE = (
  Column('trace', 'string', 'The folder of the trace, from the folder that was searched.'),
  Column('host', 'string', "The machine's name as the trace's file has it."),
  Column('device', 'string', 'The device as the trace names it.'),
  Column('step', 'number', 'The step, where rows are asked for by step.'),
  Column('phase', 'string', 'forward, backward, update, evaluation, or other.'),
  Column('layer', 'string', "The layer by the model's own name, where the trace tells."),
  Column('kind', 'string', 'kernel, memory (a copy or fill), or host (an operator on the host).'),
)

# The columns of the kernel table that TensorBoard shows, by its names and in its order.
KERNEL = (
  Column('rank', 'number', 'By total duration, within the trace, device and step.'),
  Column('kernel_name', 'string', 'The kernel, or the operator on the host.'),
  Column('registers_per_thread', 'number', 'Registers a thread; 0 where not told.'),
  Column('shmem_bytes', 'number', 'Shared memory of a block, static and dynamic, bytes.'),
  Column('block_dim', 'string', 'Threads of a block: x,y,z.'),
  Column('grid_dim', 'string', 'Blocks: x,y,z.'),
  Column('occupancy_pct', 'number', 'Occupancy of the device, percent; empty where not told.'),
  Column('is_op_tensor_core_eligible', 'boolean', 'Whether tensor cores could do the operator.'),
  Column('is_kernel_using_tensor_core', 'boolean', 'Whether the kernel runs on tensor cores.'),
  Column('op_name', 'string', 'The operator of the program; empty where not told.'),
  Column('occurrences', 'number', 'How often it ran.'),
  Column('total_duration_us', 'number', 'Sum, microseconds; of a host operator, its own.'),
  Column('avg_duration_us', 'number', 'Mean, microseconds.'),
  Column('min_duration_us', 'number', 'Least, microseconds.'),
  Column('max_duration_us', 'number', 'Most, microseconds.'),
)

AFTER = (
  Column('hlo_op', 'string', "The instruction of XLA's compiled program."),
  Column(
    'not_attributed_pct',
    'number',
    'Share of the total duration of this trace, device and step that has no operator, percent.',
  ),
)

COLUMNS = (*WHERE, *KERNEL, *AFTER)
NAMES = tuple(column.name for column in COLUMNS)

STEPS = (
  Column('trace', 'string', WHERE[0].meaning),
  Column('host', 'string', WHERE[1].meaning),
  Column('device', 'string', WHERE[2].meaning),
  Column('step', 'number', 'The step.'),
  Column('duration_us', 'number', 'From its begin to that of the next, or its end; microseconds.'),
  Column('busy_us', 'number', 'While at least one kernel, copy or host operator ran.'),
  Column('covered_pct', 'number', 'busy_us as a share of duration_us.'),
)
STEP_NAMES = tuple(column.name for column in STEPS)

_INTRODUCTION = """# Tables of kernels

What `scripts/export_kernels.py` writes. Parameters (from folder names, `--pattern`, or the record
of a run of ours) stand between `host` and `device`. Durations are microseconds, to the picosecond
where the trace has it. Printed by `python -m algorithmic_efficiency.profiling.columns`.

- What lasted no time is counted, nothing is capped, devices are not merged, and a kernel that was
  launched in two ways has two rows.
- A host operator's duration is its own, without operators within. A kernel's operator is that of
  the program: the annotation of TensorFlow, the operator in the metadata of XLA's instruction,
  PyTorch's innermost operator around the launch.
- A step is the one that launched the kernel, whenever the device came to it. `phase` and `layer`
  come from the operator's name, and in PyTorch from what is around it; `other` is what neither
  tells: of JAX's programs all that is not differentiated, the optimizer among it.
- On a CPU with several threads the event of XLA's convolution covers one thread's part of it, and
  instructions that XLA has rewritten name no operator of the program: look at `covered_pct` in
  steps.csv and at `not_attributed_pct` before sums are compared. A device has no such gaps.
- Where device and host have different clocks, kernels are tied to steps by the numbers of their
  launches; only where a trace has none by time.
- Tensor cores: an operator is eligible if it is a matrix product or a convolution, by its type
  where the trace has it; a kernel uses them if its name says so. TensorFlow's tables go by the end
  of the operator's name alone, and so miss `MatMul_1`.
"""


def _markdown() -> str:
  lines = [_INTRODUCTION]
  for title, columns in (('kernels.csv', COLUMNS), ('steps.csv', STEPS)):
    lines += [f'## {title}', '', '| column | type | meaning |', '|---|---|---|']
    lines += [f'| `{c.name}` | {c.type} | {c.meaning} |' for c in columns]
    lines.append('')
  return '\n'.join(lines).rstrip()


if __name__ == '__main__':
  sys.stdout.write(_markdown() + '\n')
