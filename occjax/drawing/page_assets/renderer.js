// Drawing: one canvas, a viewport per panel, one call for all exposed faces of a panel.
"use strict";

const BACKGROUND = [0.055, 0.067, 0.086];
const LARGEST_PALETTE = 32;

const VERTEX_SHADER = `#version 300 es
precision highp float;
precision highp int;
precision highp usampler2D;
// Faces are fetched by the number of the vertex. Instances of four vertices would say the same, but software renderers
// pay for each of them as for a draw call.
uniform usampler2D faces;
uniform mat4 clipFromCar;
uniform vec3 origin, cell, eye;
uniform float height;
uniform vec3 palette[${LARGEST_PALETTE}];
flat out vec4 light;
flat out vec3 color;
out vec2 place;
out float away;

void main() {
  int row = gl_VertexID >> 2;
  uvec4 face = texelFetch(faces, ivec2(row % ${FACES_A_ROW}, row / ${FACES_A_ROW}), 0);
  uint number = face.z >> 8;
  int axis = int(number >> 1);
  bool outward = (number & 1u) == 1u;
  vec2 corner = vec2(gl_VertexID & 1, (gl_VertexID >> 1) & 1);
  // Seen from outside, all faces turn the same way.
  if (!outward) corner = corner.yx;
  vec3 offset = vec3(0);
  offset[axis] = outward ? 1.0 : 0.0;
  offset[(axis + 1) % 3] = corner.x;
  offset[(axis + 2) % 3] = corner.y;
  vec3 index = vec3(face.x, face.y, face.z & 255u);
  vec3 position = origin + (index + offset) * cell;
  place = corner;
  uint corners = face.w >> 8;
  light = vec4(corners & 3u, (corners >> 2) & 3u, (corners >> 4) & 3u, (corners >> 6) & 3u) / 3.0;
  // A high sun from behind and the left, and a sky.
  float brightness = axis == 2 ? (outward ? 1.0 : 0.45) : axis == 0 ? (outward ? 0.6 : 0.8) : (outward ? 0.86 : 0.66);
  color = (palette[face.w & 255u] * 0.93 + 0.07) * brightness * (0.86 + 0.14 * index.z / height);
  away = distance(position, eye);
  gl_Position = clipFromCar * vec4(position, 1);
}`;

const FRAGMENT_SHADER = `#version 300 es
precision mediump float;
uniform vec3 background;
uniform highp float far;
uniform float opacity;
flat in vec4 light;
flat in vec3 color;
in vec2 place;
in highp float away;
out vec4 pixel;

void main() {
  float lit = mix(mix(light.x, light.y, place.x), mix(light.z, light.w, place.x), place.y);
  // A thin seam between cubes, as long as a cube is some pixels wide.
  vec2 border = min(place, 1.0 - place);
  float width = max(fwidth(place.x), fwidth(place.y));
  float seam = (1.0 - smoothstep(0.0, max(0.06, width), min(border.x, border.y))) * clamp(1.0 - width * 5.0, 0.0, 1.0);
  vec3 shaded = color * mix(0.5, 1.0, lit) * (1.0 - 0.28 * seam);
  float haze = clamp(away / far - 0.5, 0.0, 0.45);
  pixel = vec4(mix(shaded, background, haze), opacity);
}`;

class Renderer {
  constructor(canvas, scene) {
    const gl = canvas.getContext("webgl2", { antialias: !drawsInSoftware(), alpha: false });
    if (!gl) throw new Error("This page needs WebGL 2, which this browser does not offer.");
    this.gl = gl;
    this.canvas = canvas;
    this.scene = scene;
    this.program = linked(gl);
    this.uniforms = {};
    for (const name of ["clipFromCar", "origin", "cell", "eye", "height", "palette", "background", "far", "opacity"]) {
      this.uniforms[name] = gl.getUniformLocation(this.program, name);
    }
    this.meshes = new Map();
    this.corners = { buffer: gl.createBuffer(), faces: 0 };
    this.setFaces("box", boxFaces());
  }

  // Faces of a panel, as `exposedFaces` gives them.
  setFaces(name, { numbers, count }) {
    const gl = this.gl;
    if (!this.meshes.has(name)) this.meshes.set(name, { texture: gl.createTexture(), count: 0 });
    const mesh = this.meshes.get(name);
    mesh.count = count;
    gl.bindTexture(gl.TEXTURE_2D, mesh.texture);
    // Without smaller copies of itself, which whole numbers cannot have, it would be incomplete.
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    const rows = numbers.length / NUMBERS_A_FACE / FACES_A_ROW;
    const size = [FACES_A_ROW, rows, 0];
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA16UI, ...size, gl.RGBA_INTEGER, gl.UNSIGNED_SHORT, numbers);
    if (count > this.corners.faces) this.setCorners(rows * FACES_A_ROW);
  }

  // Two triangles a face over its four corners: the same for all panels.
  setCorners(faces) {
    const gl = this.gl;
    const corners = new Uint32Array(faces * 6);
    for (let face = 0; face < faces; face++) {
      const first = face * 4;
      corners.set([first, first + 1, first + 2, first + 2, first + 1, first + 3], face * 6);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.corners.buffer);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    this.corners.faces = faces;
  }

  // panels: name, palette, and rectangle in pixels of the canvas from its lower left. marked: a voxel [x, y, z] or null.
  draw(panels, camera, marked) {
    const { gl, uniforms, scene } = this;
    const { lower, size, shape } = scene.grid;
    const { eye } = camera.pose();
    gl.disable(gl.SCISSOR_TEST);
    this.clear();
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    gl.blendFunc(gl.SRC_ALPHA, gl.ONE_MINUS_SRC_ALPHA);
    gl.useProgram(this.program);
    gl.uniform3fv(uniforms.eye, eye);
    gl.uniform3fv(uniforms.background, BACKGROUND);
    gl.uniform1f(uniforms.far, camera.distance + 90);
    for (const { name, palette, rectangle } of panels) {
      const [left, bottom, width, height] = rectangle;
      gl.viewport(left, bottom, width, height);
      gl.uniformMatrix4fv(uniforms.clipFromCar, false, camera.matrix(width / height));
      gl.uniform1f(uniforms.opacity, 1);
      gl.uniform1f(uniforms.height, shape[2]);
      gl.uniform3fv(uniforms.palette, palette);
      this.drawMesh(name, lower, [size, size, size]);
      gl.uniform1f(uniforms.height, 1);
      for (const [from, to] of carBoxes(scene.car.box)) {
        gl.uniform3fv(uniforms.palette, scene.car.color.map((value) => value / 255));
        this.drawMesh("box", from, to.map((value, i) => value - from[i]));
      }
      if (marked) {
        // A white veil, a little larger than the voxel, over what is there or where it would be.
        gl.enable(gl.BLEND);
        gl.uniform1f(uniforms.opacity, 0.6);
        gl.uniform3fv(uniforms.palette, [1, 1, 1]);
        this.drawMesh("box", marked.map((value, i) => lower[i] + (value - 0.06) * size), Array(3).fill(size * 1.12));
        gl.disable(gl.BLEND);
      }
    }
  }

  clear() {
    const gl = this.gl;
    gl.clearColor(...BACKGROUND, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
  }

  drawMesh(name, origin, cell) {
    const { gl, uniforms } = this;
    const mesh = this.meshes.get(name);
    gl.uniform3fv(uniforms.origin, origin);
    gl.uniform3fv(uniforms.cell, cell);
    gl.bindTexture(gl.TEXTURE_2D, mesh.texture);
    gl.drawElements(gl.TRIANGLES, mesh.count * 6, gl.UNSIGNED_INT, 0);
  }
}

// Smooth edges take a processor three times as long; a graphics card does not feel them.
function drawsInSoftware() {
  const gl = document.createElement("canvas").getContext("webgl2");
  if (!gl) return false;
  let name = gl.getParameter(gl.RENDERER);
  // Some browsers tell it here, others there, and grumble when they are asked for what they do not need.
  if (/^WebKit/.test(name)) {
    const info = gl.getExtension("WEBGL_debug_renderer_info");
    if (info) name = gl.getParameter(info.UNMASKED_RENDERER_WEBGL);
  }
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return /swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
}

// The six faces of one cube in full light, to be scaled.
function boxFaces() {
  const numbers = new Uint16Array(FACES_A_ROW * NUMBERS_A_FACE);
  for (let face = 0; face < 6; face++) numbers.set([0, 0, face << 8, 255 << 8], face * NUMBERS_A_FACE);
  return { numbers, count: 6 };
}

// Body and cabin of the recording car.
function carBoxes([lower, upper]) {
  const along = (share) => lower[0] + (upper[0] - lower[0]) * share;
  const waist = lower[2] + (upper[2] - lower[2]) * 0.55;
  return [
    [[lower[0], lower[1], lower[2] + 0.2], [upper[0], upper[1], waist]],
    [[along(0.08), lower[1] + 0.12, waist], [along(0.68), upper[1] - 0.12, upper[2]]],
  ];
}

function linked(gl) {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, VERTEX_SHADER],
    [gl.FRAGMENT_SHADER, FRAGMENT_SHADER],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    throw new Error(`The shader cannot be compiled here: ${gl.getProgramInfoLog(program)}`);
  }
  return program;
}

function paletteOf(colors) {
  const palette = new Float32Array(3 * LARGEST_PALETTE);
  colors.forEach((color, i) => palette.set(color.map((value) => value / 255), 3 * i));
  return palette;
}
