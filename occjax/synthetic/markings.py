"""Markings on the carriageway, and the medians between them."""

import numpy as np

from occjax.synthetic.ground import FLAT, Ground
from occjax.synthetic.streets import Street, on_street


def paint_markings(rng, ground: Ground, street: Street, stretches) -> None:
    """Paints the lane marks, edge lines, stop lines and zebra crossings of one street.

    Args:
      rng: generator of the scene.
      ground: changed in place; markings change its colour, medians its class too.
      stretches: (start, end) between the junctions, metres along the street's axis.
    """
    white, yellow = (0.88, 0.88, 0.86), (0.85, 0.68, 0.2)
    centre_color = yellow if rng.random() < 0.5 else white
    zebra = rng.random() < 0.8

    def mark(a, b, across0, across1, width, color, dash=None):
        start, end = on_street(street, a, across0), on_street(street, b, across1)
        ground.line(start, end, width, color, dash)

    for start, end in stretches:
        a, b = start + 3.5, end - 3.5  # the zebra crossings take the ends
        if b <= a:
            continue
        if street.median_m:
            first, second = (on_street(street, *end) for end in ((a, -street.median_m / 2), (b, street.median_m / 2)))
            # Left of a street along y lies smaller x, so that either corner may be the lower one.
            (x0, x1), (y0, y1) = (sorted(pair) for pair in zip(first, second, strict=True))
            ground.fill(x0, x1, y0, y1, FLAT, (0.5, 0.42, 0.36), radius_m=0.7)
        else:
            mark(a, b, 0.0, 0.0, 0.16, centre_color, None if rng.random() < 0.4 else (3.0, 4.0))
        for side in (1, -1):
            for lane in range(1, street.lanes):
                across = side * (street.median_m / 2 + lane * street.lane_m)
                mark(a, b, across, across, 0.14, white, (2.0, 4.0))
            edge = side * (street.half_m - street.parking_m)
            if street.parking_m:
                mark(a, b, edge, edge, 0.12, white, (1.0, 1.0))
            stop = b if side < 0 else a  # right-hand traffic: the right side drives towards growing axis
            mark(stop, stop, side * street.median_m / 2, edge, 0.4, white)
        if zebra:
            for middle in (start + 1.4, end - 1.4):
                for across in np.arange(-street.half_m + 0.5, street.half_m - 0.3, 1.0):
                    mark(middle - 1.2, middle + 1.2, across, across, 0.5, white)
