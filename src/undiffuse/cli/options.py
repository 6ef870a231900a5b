"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

AT_ONCE = 4
REFINE_AT = 0.8

Model = Annotated[str | None, typer.Option(help="Model folder or training run; the embedded model when left out.")]
Vae = Annotated[Path | None, typer.Option(help="Autoencoder file or folder in the place of the model's; for Stable Diffusion.")]
Refiner = Annotated[str | None, typer.Option(help="Model that finishes what the first one began, as XL's refiner.")]
RefineAt = Annotated[float | None, typer.Option(help=f"Share of the noise schedule after which it does; else {REFINE_AT}.")]
Lora = Annotated[list[str] | None, typer.Option(help="LoRA file to add, FILE or FILE:WEIGHT; may be given several times.")]
LoraDir = Annotated[Path | None, typer.Option(help="Folder of LoRAs that prompts may name, as <lora:NAME:0.8>.")]
Embedding = Annotated[list[Path] | None, typer.Option(help="Learned word to add (textual inversion); prompts name it.")]
EmbeddingDir = Annotated[Path | None, typer.Option(help="Folder of learned words that prompts may name.")]
Grammar = Annotated[str | None, typer.Option(help="a1111 or comfyui, which stress (x:1.2), or plain; for Stable Diffusion.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Precision = Annotated[str | None, typer.Option(help="auto, fp32, bf16, fp16.")]
Engine = Annotated[str | None, typer.Option(help="torch; openvino for compiled graphs on a CPU.")]
Memory = Annotated[str | None, typer.Option(help="auto, plenty, or low: weights brought over a layer at a time.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, for machines.")]
Out = Annotated[Path, typer.Option(help="Folder to write into.")]

Negative = Annotated[str | None, typer.Option(help="What to steer away from.")]
ClipSkip = Annotated[int | None, typer.Option(help="Read CLIP so far before its end; 1 is the end; for Stable Diffusion.")]
Label = Annotated[str | None, typer.Option(help="A class name, for models that learned classes.")]
Steps = Annotated[int | None, typer.Option(help="1 to 1000; when left out what is usual for the model, else 20.")]
Guidance = Annotated[float | None, typer.Option(help="Strength of the words; 1 is off.")]
Scale = Annotated[
    list[str] | None, typer.Option(help="Strength of one kind of context, for instance map=2; --guidance of the others.")
]
Box = Annotated[list[str] | None, typer.Option(help="What stands where: left,top,right,bottom,label; sides 0 to 1.")]
Solver = Annotated[str | None, typer.Option(help='Any spelling: dpmpp_2m, "Euler a", "DPM++ 2M Karras".')]
Spacing = Annotated[str | None, typer.Option(help="trailing, leading, linspace, karras, exponential, beta, ...")]
Seed = Annotated[int | None, typer.Option(help="Of the first picture; -1 is random.")]
Seeds = Annotated[
    str | None,
    typer.Option(help="Whose numbers: native, diffusers, diffusers-gpu, comfyui, comfyui-cpu, webui-gpu, webui-cpu."),
]
Variation = Annotated[str | None, typer.Option(help="Turn towards another seed, SEED:STRENGTH, for instance 5:0.2.")]
Ensd = Annotated[int | None, typer.Option(help="Eta noise seed delta, with --seeds webui-gpu or webui-cpu.")]
Count = Annotated[int | None, typer.Option(help="Pictures a prompt, with seeds SEED, SEED + 1, ...")]
Size = Annotated[str | None, typer.Option(help="128 or 192x128; the model's own when left out.")]
Strength = Annotated[float | None, typer.Option(help="How far to leave what is there, 0 to 1.")]
Sketch = Annotated[
    float | None,
    typer.Option(help="Begin with the sketch of the words, or a hole closed, under this share of noise, 0.01 to 1."),
]
Fill = Annotated[str | None, typer.Option(help="learned, or with any model known, repaint; learned if the model did.")]
Depth = Annotated[Path | None, typer.Option(help="Depth map, white where near; for depth models.")]
NoiseLevel = Annotated[int | None, typer.Option(help="How much noise hides the small picture; x4 upscalers, else 20.")]
Scaling = Annotated[float | None, typer.Option("--hires", help="Draw on at so many times the size, 1 to 4.")]
HiresStrength = Annotated[float | None, typer.Option(help="How far --hires leaves the first drawing, 0 to 1; else 0.7.")]
HiresSteps = Annotated[int | None, typer.Option(help="Steps that --hires takes; as many as --steps when left out.")]
HiresUpscaler = Annotated[str | None, typer.Option(help="How --hires enlarges: latent, or lanczos by way of the picture.")]
Grid = Annotated[bool, typer.Option("--grid", help="Also write all pictures as one sheet.")]
Batch = Annotated[int | None, typer.Option(help=f"Pictures at once, at most; {AT_ONCE} when left out.", min=1)]
