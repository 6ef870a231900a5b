"""Put a trained run into the package as the embedded default, every weight in 8 or 4 bits.

    python recipes/emoji/pack.py runs/emoji-sketched [runs/emoji-decoder]

The second run, if any, gives the decoder; its latents must be those of the first. The model card in that folder
is written by hand and stays. Prints what each file takes.
"""

from __future__ import annotations

import sys

import torch

import undiffuse
from undiffuse.checkpoints.api import default_folder, load_codec
from undiffuse.checkpoints.tensors import round4
from undiffuse.conditioners.text import TextConditioner

FORMS = {"conditioner": "int4"}  # text encoder, sketcher and memory bear it (docs/log.md)
FORM = "int8"
MOST_MB = 40


def take_decoder(model: undiffuse.LatentDiffusion, run: str) -> None:
    """Give the model the autoencoder of this run, whose encoder must be the same."""
    other = load_codec(run)[0].autoencoder
    probe = torch.linspace(-1, 1, 3 * model.spec.size**2).view(1, 3, model.spec.size, model.spec.size)
    with torch.no_grad():
        if not torch.equal(other.encode(probe)[0], model.codec.autoencoder.encode(probe)[0]):
            sys.exit(f"{run} has other latents than the model")
    model.codec.autoencoder.load_state_dict(other.state_dict())


def settle_memory(model: undiffuse.LatentDiffusion) -> None:
    """Have what a sketcher remembers lose as little as it can by 4 bits."""
    for part in model.conditioner.parts:
        sketcher = part.sketcher if isinstance(part, TextConditioner) else None
        if sketcher is not None and sketcher.memory is not None:
            sketcher.memory.settle(round4)


def main() -> None:
    """Pack the runs that the command line names."""
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: python recipes/emoji/pack.py RUN [DECODER_RUN]")
    model, folder = undiffuse.load_model(sys.argv[1]), default_folder()
    if len(sys.argv) == 3:
        take_decoder(model, sys.argv[2])
    settle_memory(model)
    undiffuse.save_model(model, folder, dict.fromkeys(model.parts(), FORM) | FORMS)
    sizes = {path.name: path.stat().st_size / 1e6 for path in sorted(folder.iterdir())}
    for name, size in sizes.items():
        print(f"{size:8.2f} MB  {name}")
    print(f"{sum(sizes.values()):8.2f} MB in all, {MOST_MB} allowed")


if __name__ == "__main__":
    main()
