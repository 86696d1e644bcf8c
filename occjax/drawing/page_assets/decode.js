// Bytes of a frame become volumes: dense classes by voxel and the list of those that are occupied.
"use strict";

const EMPTY = 255;
const ERROR_KINDS = { right: 0, wrong: 1, missed: 2, invented: 3, uncounted: 4 };

function bytesOfBase64(text) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}

async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The format is described in occjax/drawing/page_frame.py.
async function decodeFrame(base64, scene) {
  const bytes = await inflate(bytesOfBase64(base64));
  const volumes = {};
  let at = 0;
  for (const [name, hasProbability] of Object.entries(scene.panels)) {
    [volumes[name], at] = decodeVolume(bytes, at, scene.grid.shape, hasProbability);
  }
  if (volumes.truth) volumes.errors = errorsOf(volumes.truth, volumes.prediction, bytes, at);
  return volumes;
}

function decodeVolume(bytes, start, shape, hasProbability) {
  const [sizeX, sizeY, sizeZ] = shape;
  const columns = sizeX * sizeY;
  const planes = Math.ceil(sizeZ / 8);
  const occupied = [];
  for (let column = 0; column < columns; column++) {
    for (let plane = 0; plane < planes; plane++) {
      const bits = bytes[start + plane * columns + column];
      for (let z = 0; bits >> z; z++) {
        if ((bits >> z) & 1) occupied.push(column * sizeZ + plane * 8 + z);
      }
    }
  }
  const values = new Uint8Array(columns * sizeZ).fill(EMPTY);
  const levels = hasProbability ? new Uint8Array(columns * sizeZ) : null;
  let at = start + columns * planes;
  for (let i = 0; i < occupied.length; i++) values[occupied[i]] = bytes[at + i];
  at += occupied.length;
  if (levels) {
    for (let i = 0; i < occupied.length; i++) levels[occupied[i]] = bytes[at + i];
    at += occupied.length;
  }
  return [{ values, levels, occupied: Uint32Array.from(occupied) }, at];
}

// Kinds of errors in the place of classes, on every voxel that truth or prediction occupies.
function errorsOf(truth, prediction, bytes, at) {
  const values = new Uint8Array(truth.values.length).fill(EMPTY);
  const occupied = [];
  for (let voxel = 0; voxel < values.length; voxel++) {
    const actual = truth.values[voxel];
    const predicted = prediction.values[voxel];
    if (actual === EMPTY && predicted === EMPTY) continue;
    const bit = occupied.length;
    const counts = (bytes[at + (bit >> 3)] >> (bit & 7)) & 1;
    occupied.push(voxel);
    if (!counts) values[voxel] = ERROR_KINDS.uncounted;
    else if (actual === predicted) values[voxel] = ERROR_KINDS.right;
    else if (predicted === EMPTY) values[voxel] = ERROR_KINDS.missed;
    else values[voxel] = actual === EMPTY ? ERROR_KINDS.invented : ERROR_KINDS.wrong;
  }
  return { values, levels: null, occupied: Uint32Array.from(occupied) };
}
