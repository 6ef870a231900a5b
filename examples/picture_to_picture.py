"""Start from a picture instead of from noise: `strength` says how far to leave it, from 0 to 1."""

import undiffuse

draw = undiffuse.Generator(undiffuse.load_model())
apple = undiffuse.Request("red apple, 3d render", seed=5)
start = draw(apple).images[0]  # any PIL image will do: PIL.Image.open("photo.jpg")
start.save("start.png")

for strength in (0.3, 0.5, 0.7):
    request = apple.replace(prompt="green apple, 3d render", image=start, strength=strength)
    draw(request).images[0].save(f"strength-{strength}.png")
    print(f"strength-{strength}.png took {round(strength * request.steps)} of {request.steps} steps")
