"""python scripts/predict.py runs/a image.png ...

Say which digits pictures show, with the model that a run on `mnist` or `digits` left in `--out`.
The pictures may have any size, dark on light or light on dark: each is scaled and centred as the
model's data were. `funcnet predict` is the same.
"""

from funcnet.runs.commands.predict import command

if __name__ == "__main__":
    command()
