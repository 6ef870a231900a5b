"""Words become a picture. It is saved as fox.png, with everything inside that is needed to draw it again."""

import undiffuse

model = undiffuse.load_model()
draw = undiffuse.Generator(model)

result = draw(undiffuse.Request("a fox, 3d render, on a blue background", seed=7))

result.images[0].save("fox.png")
print(f"fox.png, drawn in {result.seconds:.1f} s")

again = undiffuse.read_request("fox.png")
print(f"the file says: {again.prompt!r} from seed {again.seed}")
