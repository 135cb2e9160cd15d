"""A batch of frames to probabilities, as the pipeline does it, with nothing around it."""

from typing import Any

import numpy as np

from ids_appliance._cells import Assignment, CellTable


def judge(table: CellTable, assignment: Assignment, data: Any, host: Any, forest: Any) -> int:
    """Judge the frames of `assignment`, whose bytes lie in `data`; how many cells were new."""
    asked = 0
    while not table.assign(assignment, data, host):
        pass
    while (handed := table.request(4096)) is not None:
        first, cells, _ = handed
        asked += len(cells)
        out = np.empty(len(cells))
        forest.evaluate(cells, out)
        table.answer(first, out)
    if assignment.waiting:
        table.settle(assignment)
        table.release([assignment])
    return asked
