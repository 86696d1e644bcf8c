"""Scenery: plants, buildings and what else is rooted to the spot; it has classes, but no nuScenes boxes."""

from occjax.synthetic.objects import BRIGHT_COLORS, Thing, ball, box, pick, tint

FACADE_COLORS = (
    (0.62, 0.55, 0.46),
    (0.5, 0.3, 0.24),
    (0.72, 0.7, 0.66),
    (0.45, 0.47, 0.5),
    (0.66, 0.6, 0.5),
    (0.58, 0.42, 0.33),
    (0.8, 0.77, 0.7),
    (0.38, 0.42, 0.48),
)


def tree(rng) -> Thing:
    """A broad-leaved tree: a trunk and two to four balls of leaves."""
    trunk, radius = rng.uniform(1.8, 3.0), rng.uniform(1.2, 2.3)
    # The trunk goes up into the crown, so that no gap shows below its lowest ball.
    bark, leaf = tint(rng, (0.3, 0.22, 0.15), 0.03), tint(rng, (0.16, 0.34, 0.1), 0.04)
    solids = [box(0, 0, 0, trunk + 0.6 * radius, 0.2, 0.2, "bark", bark, (0.12, 0.12))]
    for _ in range(int(rng.integers(2, 5))):
        dx, dy = rng.normal(0, 0.35 * radius, 2)
        part = radius * rng.uniform(0.65, 1.0)
        z = trunk + radius * rng.uniform(0.6, 1.5)
        solids.append(ball(dx, dy, z, part, part, part * rng.uniform(0.75, 1.1), "foliage", tint(rng, leaf, 0.025)))
    return Thing("vegetation", solids)


def conifer(rng) -> Thing:
    """A conifer: a short trunk under three tapered tiers."""
    height, radius, leaf = rng.uniform(5, 10), rng.uniform(1.2, 1.9), tint(rng, (0.08, 0.25, 0.12), 0.03)
    solids = [box(0, 0, 0, 1.2, 0.18, 0.18, "bark", (0.28, 0.2, 0.14))]
    for level in range(3):
        z0, size = 0.9 + level * 0.27 * height, radius * (1 - 0.27 * level)
        solids.append(box(0, 0, z0, z0 + 0.45 * height, size, size, "foliage", tint(rng, leaf, 0.02), (0.1, 0.1)))
    return Thing("vegetation", solids)


def bush(rng) -> Thing:
    """A bush, one ellipsoid that reaches into the ground."""
    size, color = rng.uniform(0.5, 1.1), tint(rng, (0.17, 0.33, 0.11), 0.04)
    return Thing("vegetation", [ball(0, 0, 0.35 * size, size, size * rng.uniform(0.8, 1.2), size, "foliage", color)])


def hedge(rng, length: float) -> Thing:
    """A piece of hedge, `length` metres along its own x."""
    height = rng.uniform(0.9, 1.6)
    return Thing("vegetation", [box(0, 0, 0, height, length / 2, 0.45, "foliage", tint(rng, (0.15, 0.3, 0.1), 0.03))])


def lamp(rng) -> Thing:
    """A street lamp whose arm reaches ahead, over the street."""
    gray = tint(rng, (0.35, 0.36, 0.37), 0.05)
    mast = box(0, 0, 0, 6.5, 0.11, 0.11, "plain", gray, (0.07, 0.07))
    return Thing("manmade", [mast, box(0.8, 0, 6.4, 6.6, 0.9, 0.12, "plain", gray)])


def building(rng, half_x: float, half_y: float) -> Thing:
    """A tower or block over half_x by half_y metres, half sizes, some with a plant room on the roof."""
    # Storeys are 3.1 m (`materials`): most have up to five, the others up to thirteen.
    height = rng.uniform(7, 16) if rng.random() < 0.6 else rng.uniform(16, 40)
    color = tint(rng, pick(rng, FACADE_COLORS))
    solids = [box(0, 0, 0, height, half_x, half_y, "facade", color)]
    if rng.random() < 0.5:
        top = height + rng.uniform(1.5, 4)
        solids.append(box(0, 0, height, top, half_x / 2, half_y / 2, "plain", tint(rng, color)))
    return Thing("manmade", solids)


def house(rng, half_x: float, half_y: float) -> Thing:
    """A house over half_x by half_y metres, half sizes, its ridge along the longer side."""
    eaves, color = rng.uniform(3.0, 5.8), tint(rng, pick(rng, FACADE_COLORS))
    roof = tint(rng, pick(rng, ((0.45, 0.2, 0.14), (0.25, 0.25, 0.28), (0.38, 0.28, 0.2))))
    # Eaves overhang by 0.3 m; a roof that narrows to 0.05 m half width has a ridge.
    ridge = (half_x + 0.2, 0.05) if half_x > half_y else (0.05, half_y + 0.2)
    top = box(0, 0, eaves, eaves + rng.uniform(1.8, 3.2), half_x + 0.3, half_y + 0.3, "roof", roof, ridge)
    return Thing("manmade", [box(0, 0, 0, eaves, half_x, half_y, "facade", color), top])


def container(rng) -> Thing:
    """A shipping container of 6 m, on the ground."""
    return Thing("manmade", [box(0, 0, 0, 2.6, 3.0, 1.2, "container", tint(rng, pick(rng, BRIGHT_COLORS)))])


def fence(rng, length: float) -> Thing:
    """A closed fence, `length` metres along its own x."""
    return Thing("manmade", [box(0, 0, 0, rng.uniform(1.6, 2.1), length / 2, 0.12, "striped", (0.45, 0.45, 0.48))])
