"""Every kind of conditioner part. A new one is a file of its own and a row here."""

from __future__ import annotations

from undiffuse.conditioners.base import PartSpec
from undiffuse.conditioners.boxes import BoxesSpec
from undiffuse.conditioners.clip import CLIPSpec
from undiffuse.conditioners.depth import DepthSpec
from undiffuse.conditioners.labels import LabelSpec
from undiffuse.conditioners.lookalike import LookalikeSpec
from undiffuse.conditioners.lowres import LowResSpec
from undiffuse.conditioners.maps import MapSpec
from undiffuse.conditioners.masked import MaskSpec
from undiffuse.conditioners.size import SizeSpec
from undiffuse.conditioners.small import SmallSpec
from undiffuse.conditioners.text import TextSpec

KINDS: dict[str, type[PartSpec]] = {
    "text": TextSpec,
    "label": LabelSpec,
    "mask": MaskSpec,
    "map": MapSpec,
    "small": SmallSpec,
    "boxes": BoxesSpec,
    "lookalike": LookalikeSpec,
    "clip": CLIPSpec,
    "size": SizeSpec,
    "depth": DepthSpec,
    "lowres": LowResSpec,
}
