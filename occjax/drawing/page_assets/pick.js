// The voxel under the pointer: the first one that is shown along a ray, found cell by cell.
"use strict";

// isShown: of (value, z). Gives [x, y, z] or null.
function firstVoxel(ray, volume, grid, isShown) {
  const { lower, size, shape } = grid;
  const start = ray.eye.map((value, i) => (value - lower[i]) / size);
  const direction = ray.direction.map((value) => (Math.abs(value) < 1e-9 ? 1e-9 : value) / size);
  // Into the grid and out of it.
  let [enter, leave] = [0, Infinity];
  for (let i = 0; i < 3; i++) {
    const [one, two] = [-start[i] / direction[i], (shape[i] - start[i]) / direction[i]];
    enter = Math.max(enter, Math.min(one, two));
    leave = Math.min(leave, Math.max(one, two));
  }
  if (enter >= leave) return null;
  const at = start.map((value, i) => Math.min(Math.max(Math.floor(value + direction[i] * enter), 0), shape[i] - 1));
  const step = direction.map(Math.sign);
  const next = at.map((value, i) => (value + (step[i] > 0 ? 1 : 0) - start[i]) / direction[i]);
  for (;;) {
    const value = volume.values[(at[0] * shape[1] + at[1]) * shape[2] + at[2]];
    if (value !== EMPTY && isShown(value, at[2])) return at;
    const axis = next[0] < next[1] ? (next[0] < next[2] ? 0 : 2) : next[1] < next[2] ? 1 : 2;
    at[axis] += step[axis];
    if (at[axis] < 0 || at[axis] >= shape[axis]) return null;
    next[axis] += Math.abs(1 / direction[axis]);
  }
}
