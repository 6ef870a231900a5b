"""How strongly should the words pull? The same seed at several strengths side by side, in guidance.png."""

from PIL import Image

import undiffuse

STRENGTHS = [1, 2, 4, 7, 12]

draw = undiffuse.Generator(undiffuse.load_model())
base = undiffuse.Request("a cat, flat, on a pink background", negative="dog", seed=2)
images = [draw(base.replace(guidance=strength)).images[0] for strength in STRENGTHS]

width, height = images[0].size
sheet = Image.new("RGB", (width * len(images), height))
for column, image in enumerate(images):
    sheet.paste(image, (column * width, 0))
sheet.save("guidance.png")
print(f"guidance.png: from left to right {STRENGTHS}")
