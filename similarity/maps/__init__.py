"""The map of the catalogue: every picture in a cell of its own on one plane, near those that look like it.

projection.py   looks → points of a plane (the only module that imports openTSNE)
cells.py        points → cells of a grid, one each
sheets.py       pictures → sprite sheets in five sizes
storage.py      maps on disk
building.py     all of that in a row, as `manage.py build_map` does it
measuring.py    how many neighbours it keeps
areas.py        a region that somebody has drawn, and the pictures in it
serving.py      the map of this process, and what visitors may see of it
"""
