"""A model that is a Python class: distances to a few named colours.

The folder with this file is the model. `Handler` is made once per replica
with the folder's path; `predict` is called with the inputs of a request, each
a list of rows, and answers named outputs in the same manner.
"""

import json
import math
from pathlib import Path


class Handler:
    def __init__(self, path: str) -> None:
        self.colours = json.loads((Path(path) / "colours.json").read_text())

    def predict(self, inputs: dict) -> dict:
        rows = inputs["rgb"]
        names, distances = [], []
        for row in rows:
            point = [float(x) for x in row]
            if len(point) != 3:
                raise ValueError(f"a row of 'rgb' must have 3 numbers, not {len(point)}")
            distance, name = min((math.dist(point, rgb), name) for name, rgb in self.colours.items())
            names.append(name)
            distances.append(distance)
        return {"name": names, "distance": distances}
