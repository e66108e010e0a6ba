"""Ways through mazes of square cells."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

Cell = tuple[int, int]


def way(free: Collection[Cell], here: Cell, there: Cell) -> list[Cell]:
    """Return the cells of the shortest way through the ``free`` ones, both ends included."""
    before: dict[Cell, Cell | None] = {here: None}
    waiting = deque([here])
    while there not in before:
        cell = waiting.popleft()
        for step in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            following = (cell[0] + step[0], cell[1] + step[1])
            if following in free and following not in before:
                before[following] = cell
                waiting.append(following)
    cells, cell_ = [there], before[there]
    while cell_ is not None:
        cells.append(cell_)
        cell_ = before[cell_]
    return cells[::-1]
