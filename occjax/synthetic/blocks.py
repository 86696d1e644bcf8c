"""Blocks between the streets: towers, houses, parks, car parks and building sites."""

import numpy as np

from occjax.synthetic import objects, scenery
from occjax.synthetic.ground import FLAT, KERB_M, PAVEMENT, ROAD, TERRAIN, Ground
from occjax.synthetic.objects import maker_by_share, pick
from occjax.synthetic.placement import Site
from occjax.synthetic.shapes import footprint_m

GRASS, DIRT, BRICK = (0.27, 0.36, 0.16), (0.42, 0.34, 0.24), (0.52, 0.33, 0.27)


class BlockBuilder:
    """Paints and furnishes one block, a rectangle (x0, x1, y0, y1) between kerbs.

    Args:
      rng: generator of the scene.
      ground: rasters to paint.
      site: where things may stand.
      pavement_color, asphalt_color: RGB in 0..1, one tone per scene.
    """

    def __init__(self, rng, ground: Ground, site: Site, pavement_color, asphalt_color):
        self.rng, self.ground, self.site = rng, ground, site
        self.pavement_color, self.asphalt_color = pavement_color, asphalt_color

    def build(self, x0, x1, y0, y1) -> None:
        """Paints the block between x0 and x1, y0 and y1 (city frame, metres) and sets things up on it."""
        rng, ground = self.rng, self.ground
        ground.fill(x0, x1, y0, y1, PAVEMENT, self.pavement_color, radius_m=rng.uniform(2, 6))
        verge = rng.uniform(1.0, 1.8) if rng.random() < 0.4 else 0.0
        width = rng.uniform(2.2, 4.5)
        # 8 m of every corner stay paved, more than its rounding of at most 6 m.
        if verge:  # a strip of grass beside the kerb, broken at the corners
            for a, b, c, d in (
                (x0 + 8, x1 - 8, y0 + 0.3, y0 + 0.3 + verge),
                (x0 + 8, x1 - 8, y1 - 0.3 - verge, y1 - 0.3),
                (x0 + 0.3, x0 + 0.3 + verge, y0 + 8, y1 - 8),
                (x1 - 0.3 - verge, x1 - 0.3, y0 + 8, y1 - 8),
            ):
                ground.fill(a, b, c, d, TERRAIN, GRASS)
        inset = width + verge
        inner = (x0 + inset, x1 - inset, y0 + inset, y1 - inset)
        # Towers twice: a city's streets run between facades more often than between lawns.
        fill = pick(rng, (self._towers, self._towers, self._houses, self._park, self._car_park, self._works))
        if min(inner[1] - inner[0], inner[3] - inner[2]) < 10:  # no room for a lot or a row of cars
            fill = self._park
        self._line_with_furniture(x0, x1, y0, y1, verge)
        fill(*inner)

    def _line_with_furniture(self, x0, x1, y0, y1, verge):
        """Trees, lamps, bins and two-wheelers along the kerb, where there is no verge in a strip of 0.9 m beside it."""
        rng = self.rng
        street_trees = rng.random() < 0.6
        for side, (fixed, start, end) in enumerate(((y0, x0, x1), (y1, x0, x1), (x0, y0, y1), (x1, y0, y1))):
            inward = (1, -1, 1, -1)[side]
            for along in np.arange(start + 5, end - 5, 7.5) + rng.uniform(-1, 1):
                across = fixed + inward * (0.35 + max(verge, 0.9) / 2)
                x, y = (along, across) if side < 2 else (across, along)
                yaw = (np.pi / 2, -np.pi / 2, np.pi, 0)[side]  # faces the street
                maker = maker_by_share(
                    rng,
                    (0.45 if street_trees else 0.0, scenery.tree),
                    (0.55, scenery.lamp),
                    (0.65, objects.bin_),
                    (0.72, objects.bicycle),
                    (0.79, objects.motorcycle),
                )
                if maker is scenery.tree:
                    self._plant(maker(rng), x, y)
                elif maker:
                    along_kerb = np.pi / 2 if maker in (objects.bicycle, objects.motorcycle) else 0
                    self.site.place(maker(rng), x, y, yaw + along_kerb, z=KERB_M)

    def _plant(self, thing, x, y) -> None:
        """Plants a tree or bush in any direction; of a tree only 1 m around the trunk keeps others away."""
        # Crowns may hang over roofs, cars and each other, as they do in streets; a bush has no trunk to pass beside.
        has_trunk = len(thing.solids) > 1
        outline = footprint_m((x, y), 0.5 if has_trunk else thing.half_size[:2], 0)
        if self.site.is_free(outline):
            self.site.add(thing.stand(x, y, KERB_M, self.rng.uniform(0, 2 * np.pi)), outline)

    def _lots(self, x0, x1, y0, y1, size):
        """Splits a rectangle into lots (x0, x1, y0, y1, lies at the rim) of about `size` metres."""
        nx, ny = max(int((x1 - x0) / size), 1), max(int((y1 - y0) / size), 1)
        xs, ys = np.linspace(x0, x1, nx + 1), np.linspace(y0, y1, ny + 1)
        for i in range(nx):
            for j in range(ny):
                on_street = i in (0, nx - 1) or j in (0, ny - 1)
                yield xs[i], xs[i + 1], ys[j], ys[j + 1], on_street

    def _towers(self, x0, x1, y0, y1):
        rng = self.rng
        self.ground.fill(x0, x1, y0, y1, FLAT, BRICK)
        for a, b, c, d, on_street in self._lots(x0, x1, y0, y1, rng.uniform(13, 20)):
            if not on_street or rng.random() < 0.12:
                continue  # a courtyard, or a small square
            hx, hy = (b - a) / 2 - rng.uniform(0, 1.2), (d - c) / 2 - rng.uniform(0, 1.2)
            # From the level of the road, so 0.14 m deep in the ground: no seam opens at the foot of a facade.
            # Without margin: buildings stand wall to wall.
            self.site.place(scenery.building(rng, hx, hy), (a + b) / 2, (c + d) / 2, 0, z=0, margin_m=0)

    def _houses(self, x0, x1, y0, y1):
        rng = self.rng
        self.ground.fill(x0, x1, y0, y1, TERRAIN, GRASS)
        for a, b, c, d, on_street in self._lots(x0, x1, y0, y1, rng.uniform(14, 18)):
            if not on_street:
                continue
            x, y = (a + b) / 2 + rng.uniform(-1, 1), (c + d) / 2 + rng.uniform(-1, 1)
            hx, hy = rng.uniform(3.5, 5.5, 2)
            if rng.random() < 0.85:
                self.site.place(scenery.house(rng, hx, hy), x, y, 0, z=0, margin_m=0)
            for _ in range(int(rng.integers(1, 4))):
                plant = pick(rng, (scenery.tree, scenery.bush, scenery.conifer))
                self._plant(plant(rng), rng.uniform(a, b), rng.uniform(c, d))
        if rng.random() < 0.6:
            self._enclose(x0, x1, y0, y1, scenery.hedge)

    def _park(self, x0, x1, y0, y1):
        rng, ground = self.rng, self.ground
        ground.fill(x0, x1, y0, y1, TERRAIN, GRASS)
        xm, ym = rng.uniform(x0, x1), rng.uniform(y0, y1)
        ground.fill(xm - 1.5, xm + 1.5, y0, y1, FLAT, BRICK)
        ground.fill(x0, x1, ym - 1.5, ym + 1.5, FLAT, BRICK)
        for _ in range(int((x1 - x0) * (y1 - y0) / 55)):  # a plant per 55 m²: crowns of about 16 m² leave views between
            plant = pick(rng, (scenery.tree, scenery.tree, scenery.conifer, scenery.bush))(rng)
            x, y = rng.uniform(x0, x1), rng.uniform(y0, y1)
            if min(abs(x - xm), abs(y - ym)) > 2.5:  # off the two paths
                self._plant(plant, x, y)

    def _car_park(self, x0, x1, y0, y1):
        rng, ground = self.rng, self.ground
        ground.fill(x0, x1, y0, y1, ROAD, self.asphalt_color)
        bay, depth = 2.6, 5.0
        # Rows of bays with 3.5 m to drive between them; noses point alternately up and down.
        for row, y in enumerate(np.arange(y0 + depth / 2 + 0.5, y1 - depth / 2, depth + 3.5)):
            for x in np.arange(x0 + bay, x1 - bay, bay):
                ground.line((x - bay / 2, y - depth / 2), (x - bay / 2, y + depth / 2), 0.12, (0.8, 0.8, 0.78))
                if rng.random() < 0.5:
                    maker = objects.car if rng.random() < 0.93 else objects.motorcycle
                    self.site.place(maker(rng), x, y, np.pi / 2 * (1 if row % 2 else -1), z=0, margin_m=0.05)
        if rng.random() < 0.7:
            self.site.place(objects.trailer(rng), x0 + 8, y1 - 2, 0, z=0)
            self.site.place(objects.truck(rng), x1 - 8, y0 + 9, 0, z=0)

    def _works(self, x0, x1, y0, y1):
        rng = self.rng
        self.ground.fill(x0, x1, y0, y1, TERRAIN, DIRT)
        self._enclose(x0, x1, y0, y1, objects.barrier if rng.random() < 0.7 else scenery.fence)
        makers = (objects.construction_vehicle, scenery.container, objects.trailer, objects.truck, objects.traffic_cone)
        # Each site tries the first three: machines and trailers stand hardly anywhere else, and most classes have to
        # occur in a small world too.
        for maker in (*makers[:3], *(makers[int(i)] for i in rng.integers(0, 5, 8))):
            x, y = rng.uniform(x0 + 3, x1 - 3), rng.uniform(y0 + 3, y1 - 3)
            self.site.place(maker(rng), x, y, rng.uniform(0, 2 * np.pi), z=KERB_M)
        hx, hy = rng.uniform(4, 7, 2)
        self.site.place(scenery.building(rng, hx, hy), (x0 + x1) / 2, (y0 + y1) / 2, 0, z=0, margin_m=0)

    def _enclose(self, x0, x1, y0, y1, maker):
        """Lines the rim of a rectangle with barriers, fences or hedges, leaving gaps."""
        # Pieces a little shorter than their pitch: without that slack each would find its neighbour in its way.
        takes_length = maker is not objects.barrier
        piece = 4.0 if takes_length else 2.3
        for axis, (fixed, start, end) in enumerate(((y0, x0, x1), (y1, x0, x1), (x0, y0, y1), (x1, y0, y1))):
            for along in np.arange(start + piece / 2, end - piece / 2, piece):
                if self.rng.random() < 0.12:
                    continue
                x, y, yaw = (along, fixed, 0) if axis < 2 else (fixed, along, np.pi / 2)
                # Barriers are built across their own x.
                thing, turn = (maker(self.rng, piece - 0.1), 0) if takes_length else (maker(self.rng), np.pi / 2)
                self.site.place(thing, x, y, yaw + turn, z=KERB_M, margin_m=0)
