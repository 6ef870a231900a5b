"""Put a trained run into the package as the embedded default: U-Net and text encoder as int8, autoencoder as fp16.

    python recipes/emoji/pack.py runs/emoji

The model card in that folder is written by hand and stays. Prints what each file takes.
"""

from __future__ import annotations

import sys

import undiffuse
from undiffuse.checkpoints.api import default_folder

FORMS = {"autoencoder": "fp16", "denoiser": "int8", "conditioner": "int8"}
MOST_MB = 40


def main() -> None:
    """Pack the run that the command line names."""
    if len(sys.argv) != 2:
        sys.exit("usage: python recipes/emoji/pack.py RUN")
    model, folder = undiffuse.load_model(sys.argv[1]), default_folder()
    undiffuse.save_model(model, folder, {name: FORMS[name] for name in model.parts()})
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.iterdir())}
    for name, size in sizes.items():
        print(f"{size:8.2f} MB  {name}")
    print(f"{sum(sizes.values()):8.2f} MB in all, {MOST_MB} allowed")


if __name__ == "__main__":
    main()
