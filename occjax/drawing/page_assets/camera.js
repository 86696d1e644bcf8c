// The camera that all panels share: it circles around a point. Axes are the car's: forward, left, up, in metres.
"use strict";

const FIELD_OF_VIEW = 0.95; // across the wider side of a panel, radians
const STEEPEST = Math.PI / 2;
const FLATTEST = -0.1;

class OrbitCamera {
  constructor(grid, floor) {
    this.grid = grid;
    this.floor = floor;
    this.behind();
  }

  // From behind and above the car; of a crop as near as it takes to fill the panel.
  behind() {
    const ahead = this.grid.lower[0] + this.grid.shape[0] * this.grid.size;
    const nearness = Math.min(Math.max(ahead / 36, 0.5), 1.2);
    this.target = [8 * nearness, 0, this.floor];
    this.yaw = 0;
    this.pitch = 0.62;
    this.distance = 50 * nearness;
  }

  // Straight down, forward up, so far that the grid fits into a panel of this aspect.
  above(aspect) {
    const { lower, shape, size } = this.grid;
    this.target = [lower[0] + (shape[0] * size) / 2, lower[1] + (shape[1] * size) / 2, this.floor];
    this.yaw = 0;
    this.pitch = STEEPEST;
    const [tanX, tanY] = halfTangents(aspect);
    this.distance = 1.04 * Math.max((shape[1] * size) / 2 / tanX, (shape[0] * size) / 2 / tanY) + shape[2] * size * 0.5;
  }

  turn(yaw, pitch) {
    this.yaw += yaw;
    this.pitch = Math.min(Math.max(this.pitch + pitch, FLATTEST), STEEPEST);
  }

  zoom(factor) {
    this.distance = Math.min(Math.max(this.distance * factor, 3), 400);
  }

  // Shifts what is looked at by a share of the panel's width, along the ground.
  shift(right, up) {
    const scale = 2 * Math.tan(FIELD_OF_VIEW / 2) * this.distance;
    const [cos, sin] = [Math.cos(this.yaw), Math.sin(this.yaw)];
    this.target[0] += scale * (right * sin + up * cos);
    this.target[1] += scale * (-right * cos + up * sin);
  }

  // Where the camera stands and its axes, unit vectors.
  pose() {
    const [cosYaw, sinYaw, cosPitch, sinPitch] = [
      Math.cos(this.yaw),
      Math.sin(this.yaw),
      Math.cos(this.pitch),
      Math.sin(this.pitch),
    ];
    const forward = [cosPitch * cosYaw, cosPitch * sinYaw, -sinPitch];
    const right = [sinYaw, -cosYaw, 0];
    const up = [sinPitch * cosYaw, sinPitch * sinYaw, cosPitch];
    const eye = this.target.map((value, i) => value - forward[i] * this.distance);
    return { eye, forward, right, up };
  }

  // Column-major clip-from-car matrix of a panel.
  matrix(aspect) {
    const { eye, forward, right, up } = this.pose();
    const [tanX, tanY] = halfTangents(aspect);
    const near = Math.max(0.3, this.distance * 0.02);
    const far = this.distance + 300;
    const row = (axis, scale) => [...axis.map((value) => value * scale), -dot(axis, eye) * scale];
    const a = (far + near) / (far - near);
    const b = (-2 * far * near) / (far - near);
    const w = row(forward, 1);
    const z = w.map((value, i) => value * a + (i === 3 ? b : 0));
    const rows = [row(right, 1 / tanX), row(up, 1 / tanY), z, w];
    return Float32Array.from({ length: 16 }, (_, i) => rows[i % 4][i >> 2]);
  }

  // Direction of the ray through a point of a panel, x and y from -1 to 1, y up.
  ray(x, y, aspect) {
    const { eye, forward, right, up } = this.pose();
    const [tanX, tanY] = halfTangents(aspect);
    return { eye, direction: forward.map((value, i) => value + right[i] * x * tanX + up[i] * y * tanY) };
  }
}

function halfTangents(aspect) {
  const half = Math.tan(FIELD_OF_VIEW / 2);
  // Wide panels would see a strip, tall ones a needle.
  if (aspect >= 1.8) return [(half * aspect) / 1.8, half / 1.8];
  return aspect >= 1 ? [half, half / aspect] : [half, half / aspect];
}

function dot(a, b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
