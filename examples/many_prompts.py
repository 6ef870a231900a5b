"""Several prompts with two pictures each, drawn together. Every file is named after its seed and tells its own prompt."""

import undiffuse

PROMPTS = ["a fox, 3d render", "red apple, glossy gradient", "a sailboat on a purple background", "cactus, flat"]

draw = undiffuse.Generator(undiffuse.load_model(), batch=8)
requests = [undiffuse.Request(prompt, seed=7, count=2) for prompt in PROMPTS]

for result in draw.many(requests):
    for path in result.save("many"):
        print(f"{path}: {result.request.prompt}")
