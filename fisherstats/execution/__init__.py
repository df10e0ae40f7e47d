"""Blocks of inputs, mapped on threads and combined in block order: the only loop over inputs.

A block is the unit of work, of randomness and of summation. Its size depends on the kind of work and on the network, and for the
last group of blocks on the number of inputs, never on chunks or threads, so that none of these can change a bit of a result.
"""

from __future__ import annotations

from fisherstats.execution.blas import one_blas_thread
from fisherstats.execution.passes import Pass, PassShape, Step, Steps, Work, at_once, mean, stack
from fisherstats.execution.reductions import Reduction, Task, Total
from fisherstats.execution.row_source import (
    BLOCK_NUMBERS,
    STREAM_ROWS,
    Batches,
    Cut,
    Part,
    Rows,
    as_announced,
    block_rows,
    rows_by_number,
)
from fisherstats.execution.scheduler import BlockFunction
from fisherstats.execution.thread_pool import share, thread_count

__all__ = [
    "BLOCK_NUMBERS",
    "STREAM_ROWS",
    "Batches",
    "BlockFunction",
    "Cut",
    "Part",
    "Pass",
    "PassShape",
    "Reduction",
    "Rows",
    "Step",
    "Steps",
    "Task",
    "Total",
    "Work",
    "as_announced",
    "at_once",
    "block_rows",
    "mean",
    "one_blas_thread",
    "rows_by_number",
    "share",
    "stack",
    "thread_count",
]
