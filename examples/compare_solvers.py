"""One seed, several solvers, ever more steps: a row each, in solvers.png. Which of them is there first?"""

from PIL import Image

import undiffuse

SOLVERS = ["Euler", "Euler a", "Heun", "DPM++ 2M", "DPM++ 2M Karras"]
STEPS = [4, 8, 16]

draw = undiffuse.Generator(undiffuse.load_model())
base = undiffuse.Request("hamburger, noto, on a yellow background", seed=11)
results = draw.many([base.replace(solver=solver, steps=steps) for solver in SOLVERS for steps in STEPS])

width, height = results[0].images[0].size
sheet = Image.new("RGB", (width * len(STEPS), height * len(SOLVERS)))
for index, result in enumerate(results):
    sheet.paste(result.images[0], (index % len(STEPS) * width, index // len(STEPS) * height))
sheet.save("solvers.png")
print(f"solvers.png: down {', '.join(SOLVERS)}; across {STEPS} steps")
