"""What is known, continued smoothly over what is not."""

from __future__ import annotations

import torch

from undiffuse.core.membrane import continued


def test_a_plane_is_continued_as_a_plane() -> None:
    rows, columns = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    plane = torch.stack([2 * rows - columns, 0.5 * columns, torch.full_like(rows, 3.0)])
    known = torch.ones(40, 56, dtype=torch.bool)
    known[9:30, 13:44] = False
    found = continued(torch.where(known, plane, 1e3), known)
    assert torch.equal(found[:, known], plane[:, known])
    assert float((found - plane).abs().max()) < 0.03 * float(plane.abs().max())


def test_where_nothing_is_known_there_is_nothing_to_continue() -> None:
    for size in ((7, 9), (1, 5), (1, 1)):
        found = continued(torch.full((2, *size), 3.0), torch.zeros(size, dtype=torch.bool))
        assert torch.equal(found, torch.zeros(2, *size))


def test_what_touches_an_edge_of_the_picture_is_continued_too() -> None:
    for known in (torch.zeros(7, 9, dtype=torch.bool), torch.zeros(1, 5, dtype=torch.bool)):
        known[0, 0] = True
        found = continued(torch.where(known, 4.0, -50.0)[None], known)
        torch.testing.assert_close(found, torch.full_like(found, 4.0))
