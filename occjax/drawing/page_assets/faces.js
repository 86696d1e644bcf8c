// Exposed faces of the voxels that are switched on, with the light that reaches each corner.
"use strict";

// A face takes four 16-bit numbers: x, y, z | face << 8, value | corners << 8. Faces are numbered 2 * axis + side, side 1
// looks along the axis; its corners, two bits of light each, are (0, 0), (1, 0), (0, 1), (1, 1) along the two axes that
// follow in x, y, z, x, y.
const NUMBERS_A_FACE = 4;
const FACES_A_ROW = 1024; // of the texture that holds them

// isOn: by value. top: layers of height that are shown. Gives numbers, padded to whole rows, and how many faces they are.
function exposedFaces(volume, shape, isOn, top) {
  const [sizeX, sizeY, sizeZ] = shape;
  // An empty shell around the grid: neighbours need no bounds.
  const steps = [(sizeY + 2) * (sizeZ + 2), sizeZ + 2, 1];
  const solid = new Uint8Array((sizeX + 2) * steps[0]);
  const inShell = new Uint32Array(volume.occupied.length);
  const shown = new Uint32Array(volume.occupied.length);
  let count = 0;
  for (const voxel of volume.occupied) {
    const z = voxel % sizeZ;
    if (z >= top || !isOn[volume.values[voxel]]) continue;
    const column = (voxel - z) / sizeZ;
    const y = column % sizeY;
    const x = (column - y) / sizeY;
    shown[count] = voxel;
    inShell[count] = (x + 1) * steps[0] + (y + 1) * steps[1] + z + 1;
    solid[inShell[count++]] = 1;
  }
  // Counted first: the array is as long as it has to be.
  let total = 0;
  for (let i = 0; i < count; i++) {
    const here = inShell[i];
    for (const step of steps) total += Number(!solid[here - step]) + Number(!solid[here + step]);
  }
  const rows = Math.max(1, Math.ceil(total / FACES_A_ROW));
  const numbers = new Uint16Array(rows * FACES_A_ROW * NUMBERS_A_FACE);
  let length = 0;
  for (let i = 0; i < count; i++) {
    const here = inShell[i];
    const z = shown[i] % sizeZ;
    const column = (shown[i] - z) / sizeZ;
    const y = column % sizeY;
    const x = (column - y) / sizeY;
    for (let face = 0; face < 6; face++) {
      const axis = face >> 1;
      const before = here + (face & 1 ? steps[axis] : -steps[axis]);
      if (solid[before]) continue;
      numbers[length] = x;
      numbers[length + 1] = y;
      numbers[length + 2] = z | (face << 8);
      numbers[length + 3] = volume.values[shown[i]] | (cornerLight(solid, before, axis, steps) << 8);
      length += NUMBERS_A_FACE;
    }
  }
  return { numbers, count: total };
}

// Ambient occlusion: a corner is the darker the more of the three voxels around it, in front of the face, are solid.
function cornerLight(solid, before, axis, steps) {
  const u = steps[(axis + 1) % 3];
  const v = steps[(axis + 2) % 3];
  const left = solid[before - u];
  const right = solid[before + u];
  const below = solid[before - v];
  const above = solid[before + v];
  const light = (one, two, corner) => (one && two ? 0 : 3 - one - two - corner);
  return (
    light(left, below, solid[before - u - v]) |
    (light(right, below, solid[before + u - v]) << 2) |
    (light(left, above, solid[before - u + v]) << 4) |
    (light(right, above, solid[before + u + v]) << 6)
  );
}
