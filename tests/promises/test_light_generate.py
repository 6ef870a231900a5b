"""The road from a cold shell to a PNG takes in only what drawing needs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

# Of torch only what it imports by itself; bars only on a terminal; no readers of files that were not named.
NEEDLESS = {
    "diffusers", "huggingface_hub", "mpmath", "resvg_py", "rich", "sympy", "tensorboard", "torch._dynamo", "torch._inductor",
    "torch.distributed.checkpoint", "torch.distributed.elastic", "torch.distributed.fsdp", "torch.utils.tensorboard",
    "torchvision", "transformers",
    "undiffuse.data.dataset", "undiffuse.data.latents", "undiffuse.data.layouts", "undiffuse.data.render",
    "undiffuse.evaluation", "undiffuse.networks.discriminator", "undiffuse.networks.perceptual",
    "undiffuse.training",
}  # fmt: skip


def test_generate_imports_nothing_that_it_does_not_use(tiny_folder: Path, tmp_path: Path) -> None:
    words = ["generate", "a fox", "--model", str(tiny_folder), "--steps", "1", "--seed", "1", "--out", str(tmp_path)]
    code = (
        "import json, sys; from undiffuse.cli.main import run; "
        f"code = run({words!r}); print(json.dumps([code, *sys.modules]), file=sys.stderr)"
    )

    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=alone)

    status, *modules = json.loads(done.stderr.splitlines()[-1])
    assert status == 0 and Path(done.stdout.strip()).is_file()
    assert not NEEDLESS & set(modules)
