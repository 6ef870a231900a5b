"""Names of modules, ours and others': tables of prefixes, applied to the names of tensors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

RESIDUAL = {
    "compvis": {
        "norm1": "in_layers.0",
        "conv1": "in_layers.2",
        "embedding": "emb_layers.1",
        "norm2": "out_layers.0",
        "conv2": "out_layers.3",
        "skip": "skip_connection",
    },
    "diffusers": {"embedding": "time_emb_proj", "skip": "conv_shortcut"},
}
"""Inside a residual block of the U-Net; what is left out has the same name."""

TRANSFORMER = {
    "into": "proj_in",
    "out": "proj_out",
    "blocks": "transformer_blocks",
    "norm_self": "norm1",
    "norm_cross": "norm2",
    "norm_feed": "norm3",
    "attend_self": "attn1",
    "attend_cross": "attn2",
    "to_query": "to_q",
    "to_key": "to_k",
    "to_value": "to_v",
    "to_out": "to_out.0",
    "feed.widen": "ff.net.0.proj",
    "feed.narrow": "ff.net.2",
}
"""Inside a spatial transformer, for both layouts."""


def rename_inside(name: str, table: Mapping[str, str]) -> str:
    """A dotted name with every module of the table replaced; longer entries, "feed.widen", go before shorter ones."""
    parts, renamed, place = name.split("."), [], 0
    while place < len(parts):
        pair = ".".join(parts[place : place + 2])
        took = 2 if pair in table else 1
        renamed.append(table.get(pair if took == 2 else parts[place], parts[place]))
        place += took
    return ".".join(renamed)


def rename_all(names: Iterable[str], prefixes: Mapping[str, tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """Their name for each of ours: the longest prefix of a module decides, what is inside goes by that prefix's table.

    Raises:
        KeyError: for a name that no prefix covers.
    """
    found = {}
    for name in names:
        parts = name.split(".")
        cut = next((n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in prefixes), 0)
        if not cut:
            raise KeyError(name)
        theirs, inside = prefixes[".".join(parts[:cut])]
        found[name] = ".".join(part for part in (theirs, rename_inside(".".join(parts[cut:]), inside)) if part)
    return found
