"""The licence and attribution page that every built emoji set carries."""

from __future__ import annotations

from collections.abc import Mapping

from undiffuse.data.emoji.sources import KEYWORDS, LABELS, STYLES

URLS = {
    "MIT": "https://opensource.org/license/mit",
    "Apache-2.0": "https://www.apache.org/licenses/LICENSE-2.0",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}

HEAD = """# Licences and attribution

The pictures in this folder are the work of others, used under the licences below. They were resized to
{size} x {size} pixels and stored as PNG with transparency; nothing else was changed. Whoever passes this
folder on, or publishes pictures from it, passes on this page.

| style | pictures | work | licence | npm package | home |
|---|---|---|---|---|---|
"""

TAIL = """
Names, groups and keywords: {labels} (MIT, Copyright (c) Miles Johnson) and {keywords} (MIT, Copyright (c)
Mu-An Chiou).

## The MIT licence

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation
the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and
to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of
the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO
THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF
CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS
IN THE SOFTWARE.
"""


def licences_page(size: int, counts: Mapping[str, int]) -> str:
    """LICENSES.md for a set of this picture size, with the number of pictures of each style phrase."""
    lines = [
        f"| {style.phrase} | {counts.get(style.phrase, 0)} | {style.credit} | [{style.licence}]({URLS[style.licence]}) "
        f"| {style.package} | <{style.home}> |"
        for style in STYLES
    ]
    return HEAD.format(size=size) + "\n".join(lines) + "\n" + TAIL.format(labels=LABELS, keywords=KEYWORDS)
