"""This room tells which memory a process really touches: working sets and reuse distances.

Windows of time or of training steps; in each the pages that were touched, by backends that differ
in what the kernel has to offer. `MEMORY.md` beside this file describes a trace and what it means.
"""
