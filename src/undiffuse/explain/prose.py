"""What the page says between its figures, as HTML; names in braces are filled with what was measured."""

from __future__ import annotations

NOISE = """
<p>Take a picture and add a little noise; then more, until nothing of the picture is left. That is easy and needs no network:
</p>
<p class="formula">x<sub>t</sub> = &alpha; &middot; x<sub>0</sub> + &sigma; &middot; noise</p>
<p>A diffusion model learns the way back: shown any of these, it says what the clean picture was.</p>
<p>Below is the finished picture with the very noise that its drawing began with. Drawing goes from right to left.</p>"""

NOISE_NOTE = """
<p class="note">
The share of noise is &sigma;&sup2; / (&alpha;&sup2; + &sigma;&sup2;), snr is &alpha;&sup2; / &sigma;&sup2;.</p>"""

LATENT = """
<p>Pixels are many, and most of them say what their neighbours say. An encoder packs the picture into a latent of
<b>{times} times fewer numbers</b>, and all that follows happens there. A decoder unpacks the result. The way there and back
keeps this picture to {psnr} dB (PSNR; at 40 few eyes see a difference).</p>"""

PIXELS = "<p>This model works on the pixels themselves: its latent is the picture.</p>"

COMPUTED = """about {seconds}, <em>computed</em>: {times} times as many positions, as many times the work of every
convolution; attention would cost more still"""

STEPS = """
<p>{start} At every step the network looks at what there is and says what it takes for the clean picture: at first a blur
of all that would fit, then ever more sure. The solver goes a little way towards it, down to the next level of noise, and asks
again. {looks}</p>"""

FROM_NOISE = "The drawing starts with noise alone."
FROM_AROUND = (
    "The drawing starts with the hole closed, under noise: with what is remembered that agrees with the words and with "
    "what is around the hole, or else with that, continued smoothly."
)
FROM_SKETCH = "The drawing starts with the sketch that the words make, under noise."
FROM_PICTURE = "The drawing starts with the given picture under noise."

LOOKS = {
    "decoder": "",
    "preview": "Steps are shown by the model's quick decoder for previews.",
    "linear": "The decoder is slow here: steps are shown by a map from latent channels to colours, fitted to this picture.",
}

GUIDANCE = """
<p>The same noise, told nothing, becomes something too: whatever this model finds likely. Told what to draw, it leans that
way, often too little. So at every step the network is asked twice, with what was said and without, and the answer is pushed
along the difference:</p>
<p class="formula">x<sub>0</sub> = without + guidance &middot; (with &minus; without)</p>"""

WORDS = """
<p>Words reach the U-Net by cross-attention: in each of {layers} layers, every place of the picture shares its attention out
among the words. Here a word lights the picture where it was looked at: brightest where most, darkest where least. Point at a
word, or tap it.</p>"""

WORDS_NOTE = """
<p class="note">Percentages are shares of all attention, mean over heads, layers, steps and places. {rest} of it lies on no
word but on the marks around the prompt and what fills the rest of its length.</p>"""

DROPPED = """
<p>Attention says where the network looked, not what it made of it. A plainer question: leave a word out, keep the noise, and
draw again. What the picture loses is what the word did. Sorted by how far the pixels move on average.</p>"""

INSTEAD = """
<p>Noise is no seed of a certain picture. The same noise, told something else, becomes something else. Below, what the network
takes for clean on both ways. {apart}</p>"""

APART = "In step 1 the two are {first} of their size apart, in the last {last}."

ENTRANCES = """
<p>Whatever steers a drawing enters the U-Net by one of three ways, or several: as <b>tokens</b> that places attend to, as a
<b>vector</b> added to what it is told of the noise level, or as <b>channels</b> laid beside the latent, place by place. This
model learned:</p>"""

OTHERS = """
<p>Some of your words were in no caption that this model learned from, so it looked them up in its thesaurus and read others in
their place: {read}. From there on it knows only those.</p>"""

BESIDE = "<p>{what} became {channels} channels of {size}. {weight}</p>"

SKETCH = """
<p>Words have no places, so a small network made them into some: before any noise was looked at, it guessed the mean of all
pictures that these words could be said of. That is a blur, and as much as words alone can tell; the U-Net draws the one
picture that fits both it and the noise.</p>"""

RECALLED = """
<p>It had help: this model remembers the pictures that it learned from, and the words called some of them to mind, with the
probabilities below. The sketch is made of them, the likelier ones above all, before the background that was asked for; with one
of them almost certain, the drawing will be much like that picture. Of two things at once each counts by half.</p>"""

AGREEING = """
<p>What is to be seen around the hole was heeded, too: pictures that agree with it are the likelier ones, and where none agrees
the sketch is what is around the hole, continued smoothly.</p>"""

RECOGNISED = """
<p>The sketch decoded above is no guess from words alone: things that the words name, and that this model remembers, were looked
for in what is around the hole, in every size and place. Some were recognised, so the sketch is the picture completed with them.
The U-Net draws what fits both it and the noise.</p>"""

WEIGHT = "The first convolution weighs a channel of it {times} times as much as one of the latent (root mean square)."

KEPT = """The finished picture above carries its own request: save it, and <code>undiffuse verify</code> draws it again."""

KINDS = {
    "text": "words",
    "clip": "words",
    "label": "a class",
    "mask": "a masked picture",
    "map": "a semantic map",
    "small": "a small picture",
    "boxes": "boxes",
    "lookalike": "a picture to resemble",
    "size": "sizes",
    "depth": "a depth map",
    "lowres": "a small picture",
}
"""What contexts are called; one of another kind goes by its own name."""
