"""Look over the shoulder: after every step the picture as the model imagines it so far. All of them become moving.gif."""

import undiffuse

draw = undiffuse.Generator(undiffuse.load_model())
frames = []

for step in draw.stream(undiffuse.Request("butterfly, twemoji, on a green background", seed=3, steps=12)):
    frames += step.preview()
    print(f"step {step.index + 1} of {step.steps}")
    # Enough? `break` ends the drawing; nothing else has to be done.

first, *others = frames
first.save("moving.gif", save_all=True, append_images=others, duration=200, loop=0)
