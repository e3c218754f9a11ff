// A brain that turns: WebGL 2, drawn only when something changed.

const VERTEX_SHADER = `#version 300 es
in vec3 inflated, pial, inflatedNormal, pialNormal;
in float sulc, value, known, region;
uniform mat3 turn;
uniform vec2 zoom;
uniform vec3 middle;
uniform float inflation, aside;
out vec3 normal;
out float depth, shown, covered, inside;
void main() {
  vec3 place = mix(pial - middle, inflated + vec3(aside, 0, 0), inflation);
  vec3 seen = turn * place;
  gl_Position = vec4(seen.xy * zoom, -seen.z / 400.0, 1);
  normal = turn * mix(pialNormal, inflatedNormal, inflation);
  depth = sulc;
  shown = value;
  covered = known;
  inside = region;
}`;

// The colours are those of the still maps, of `berg.surface.painting`: grey sulci and gyri, values
// over them, light over both.
const FRAGMENT_SHADER = `#version 300 es
precision highp float;
in vec3 normal;
in float depth, shown, covered, inside;
uniform sampler2D colours;
uniform vec2 limits;
uniform float fade;
out vec4 colour;
void main() {
  float grey = 0.80 - 0.11 * tanh(4.0 * depth);
  float value = shown / max(covered, 0.001);
  float share = clamp((value - limits.x) / (limits.y - limits.x), 0.0, 1.0);
  float opacity = step(0.5, covered);
  if (fade > 0.0) opacity *= smoothstep(0.0, fade, abs(value));
  vec3 paint = texture(colours, vec2(share * 0.99609 + 0.00195, 0.5)).rgb;
  vec3 mixed = mix(vec3(grey), paint, opacity);
  float light = dot(normalize(normal), normalize(vec3(-0.3, 0.45, 0.85)));
  mixed *= 0.75 + 0.25 * clamp(light, 0.0, 1.0);
  float slope = fwidth(inside);
  if (slope > 0.0) {
    float pixels = abs(inside - 0.5) / slope;
    mixed = mix(mixed, vec3(1), 0.75 * (1.0 - smoothstep(1.6, 2.8, pixels)));
    mixed = mix(mixed, vec3(0.07), 1.0 - smoothstep(0.8, 1.6, pixels));
  }
  colour = vec4(mixed, 1);
}`;

const MIDDLE = [0, -18, 15]; // of the pial surface, in mm; the inflated one has its own at zero
const ASIDE = 44; // mm by which the inflated hemispheres are moved apart
const SEEN = [240, 225]; // mm that fit into the canvas, across and down
const SLOW_MS = 40; // for one picture, at which turning is not smooth any more
const STILL_MS = 200;
const NO_WEBGL = "no WebGL 2";
const CHANGING = ["value", "known", "region"];

class Brain {
  /** Raises an Error where the browser has no WebGL 2. */
  constructor(canvas, mesh) {
    this.canvas = canvas;
    const gl = canvas.getContext("webgl2", { antialias: true, preserveDrawingBuffer: true });
    if (!gl) throw new Error(NO_WEBGL);
    this.gl = gl;
    this.topology = buildTopology(mesh.icosahedron);
    this.program = this.#compile();
    this.hemispheres = Object.fromEntries(
      HEMISPHERES.map((hemi) => [hemi, this.#upload(hemi, mesh)]),
    );
    this.colours = gl.createTexture();
    this.visible = new Set(HEMISPHERES);
    this.inflation = 1;
    this.azimuth = 0;
    this.elevation = -15;
    this.zoom = 1.1;
    this.onDraw = () => {};
    gl.enable(gl.DEPTH_TEST);
    gl.enable(gl.CULL_FACE);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  #compile() {
    const { gl } = this;
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
      throw new Error(gl.getProgramInfoLog(program));
    }
    gl.useProgram(program);
    return program;
  }

  #upload(hemi, mesh) {
    const { gl, topology } = this;
    const attributes = { sulc: upsample(unpack(mesh.sulc[hemi], Int8Array), 1, topology) };
    attributes.sulc = attributes.sulc.map((step) => step / 64);
    for (const surface of ["inflated", "pial"]) {
      const steps = upsample(unpack(mesh[surface][hemi], Int16Array), 3, topology);
      attributes[surface] = steps.map((step) => step / mesh.steps_per_mm);
      attributes[`${surface}Normal`] = vertexNormals(attributes[surface], topology.faces);
    }
    for (const name of CHANGING) attributes[name] = new Float32Array(attributes.sulc.length);
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    const buffers = {};
    for (const [name, numbers] of Object.entries(attributes)) {
      buffers[name] = gl.createBuffer();
      gl.bindBuffer(gl.ARRAY_BUFFER, buffers[name]);
      gl.bufferData(gl.ARRAY_BUFFER, numbers, gl.DYNAMIC_DRAW);
      const place = gl.getAttribLocation(this.program, name);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, numbers.length / attributes.sulc.length, gl.FLOAT, false, 0, 0);
    }
    for (const name of ["coarser", "faces"]) {
      buffers[name] = gl.createBuffer();
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers[name]);
      gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, topology[name], gl.STATIC_DRAW);
    }
    return { array, buffers, attributes, aside: hemi === "lh" ? -ASIDE : ASIDE };
  }

  #change(hemi, name, numbers) {
    const { gl } = this;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.hemispheres[hemi].buffers[name]);
    gl.bufferSubData(gl.ARRAY_BUFFER, 0, numbers);
  }

  /** Show values of the vertices of a level, Float32Array by hemisphere, NaN where there is none. */
  showMap(values, scale) {
    const { gl } = this;
    this.level = 0;
    while (countVertices(this.level) < values.lh.length) this.level++;
    this.values = values;
    for (const hemi of HEMISPHERES) {
      const known = values[hemi].map((value) => (Number.isNaN(value) ? 0 : 1));
      const filled = values[hemi].map((value) => (Number.isNaN(value) ? 0 : value));
      this.#change(hemi, "known", upsample(known, 1, this.topology));
      this.#change(hemi, "value", upsample(filled, 1, this.topology));
    }
    gl.bindTexture(gl.TEXTURE_2D, this.colours);
    gl.texImage2D(
      gl.TEXTURE_2D, 0, gl.RGB, 256, 1, 0, gl.RGB, gl.UNSIGNED_BYTE, unpack(scale.colours, Uint8Array),
    );
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    this.#set("limits", scale.low, scale.high);
    this.#set("fade", scale.fade);
    this.draw();
  }

  /** Outline a region, its vertices by hemisphere; null for none. */
  outline(region) {
    for (const hemi of HEMISPHERES) {
      const { region: none } = this.hemispheres[hemi].attributes;
      const inside = region ? softRegion(region[hemi], this.level, this.topology) : none;
      this.#change(hemi, "region", inside);
    }
    this.draw();
  }

  turnTo(azimuth, elevation, zoom = this.zoom) {
    this.azimuth = azimuth;
    this.elevation = elevation;
    this.zoom = zoom;
    this.draw();
  }

  turnBy(right, up) {
    this.#move();
    this.turnTo(this.azimuth + right, Math.max(-90, Math.min(90, this.elevation + up)));
  }

  zoomBy(factor) {
    this.#move();
    this.zoom = Math.max(0.6, Math.min(8, this.zoom * factor));
    this.draw();
  }

  /** Where pictures take long, as without a graphics card, draw fewer faces until all is still. */
  #move() {
    clearTimeout(this.stillness);
    this.isMoving = this.isSlow;
    this.stillness = setTimeout(() => {
      this.isMoving = false;
      if (this.isSlow) this.draw();
    }, STILL_MS);
  }

  /** Unit vectors to the right, upward and to the viewer, in the brain's axes. */
  axes() {
    const [a, e] = [this.azimuth, this.elevation].map((degrees) => (degrees * Math.PI) / 180);
    const [sa, ca, se, ce] = [Math.sin(a), Math.cos(a), Math.sin(e), Math.cos(e)];
    return [
      [ca, sa, 0],
      [-sa * se, ca * se, ce],
      [sa * ce, -ca * ce, se],
    ];
  }

  #scale() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const pixelsPerMm = this.zoom * Math.min(width / SEEN[0], height / SEEN[1]);
    return { width, height, pixelsPerMm };
  }

  #set(name, ...numbers) {
    this.gl[`uniform${numbers.length}f`](this.gl.getUniformLocation(this.program, name), ...numbers);
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      this.#drawNow();
    });
  }

  #drawNow() {
    const began = performance.now();
    const { gl, canvas } = this;
    const { width, height, pixelsPerMm } = this.#scale();
    const density = Math.min(window.devicePixelRatio || 1, 2);
    const size = [width, height].map((side) => Math.max(1, Math.round(side * density)));
    // Only if they change: setting them, even to what they are, allocates the picture anew.
    if (canvas.width !== size[0] || canvas.height !== size[1]) {
      [canvas.width, canvas.height] = size;
    }
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const [right, up, near] = this.axes();
    const columns = [0, 1, 2].flatMap((i) => [right[i], up[i], near[i]]);
    gl.uniformMatrix3fv(gl.getUniformLocation(this.program, "turn"), false, columns);
    this.#set("zoom", (2 * pixelsPerMm) / width, (2 * pixelsPerMm) / height);
    this.#set("inflation", this.inflation);
    for (const hemi of this.visible) {
      const { array, buffers, aside } = this.hemispheres[hemi];
      this.#set("aside", this.visible.size > 1 ? aside : 0);
      this.#set("middle", this.#pialMiddle(hemi), MIDDLE[1], MIDDLE[2]);
      const faces = this.isMoving ? "coarser" : "faces"; // vertices are nested
      gl.bindVertexArray(array);
      gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffers[faces]);
      gl.drawElements(gl.TRIANGLES, this.topology[faces].length, gl.UNSIGNED_INT, 0);
    }
    // The second picture is timed: the first one waits for the shaders. Reading waits for the end.
    if (this.isSlow === undefined && this.hasDrawn) {
      gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
      this.isSlow = performance.now() - began > SLOW_MS;
    }
    this.hasDrawn = true;
    this.onDraw();
  }

  #pialMiddle(hemi) {
    return this.visible.size > 1 ? 0 : hemi === "lh" ? -34 : 34;
  }

  /** Where the vertices of a hemisphere are seen: mm to the right, upward and to the viewer. */
  #project(hemi) {
    const axes = this.axes();
    const { attributes, aside } = this.hemispheres[hemi];
    const { inflated, pial } = attributes;
    const middle = [this.#pialMiddle(hemi), MIDDLE[1], MIDDLE[2]];
    const shift = [this.visible.size > 1 ? aside : 0, 0, 0];
    const seen = new Float32Array(pial.length);
    for (let at = 0; at < seen.length; at += 3) {
      for (let i = 0; i < 3; i++) {
        const [flat, folded] = [inflated[at + i] + shift[i], pial[at + i] - middle[i]];
        const place = folded * (1 - this.inflation) + flat * this.inflation;
        for (let axis = 0; axis < 3; axis++) seen[at + axis] += axes[axis][i] * place;
      }
    }
    return seen;
  }

  /** The data's vertex nearest to what is seen at a place on the canvas, or null. */
  vertexAt(x, y) {
    const { width, height, pixelsPerMm } = this.#scale();
    const place = [(x - width / 2) / pixelsPerMm, (height / 2 - y) / pixelsPerMm];
    let front = null;
    for (const hemi of this.visible) {
      const hit = faceAt(this.#project(hemi), this.topology.faces, ...place);
      if (hit && !(front?.depth >= hit.depth)) front = { hemi, ...hit };
    }
    if (!front) return null;
    return { hemi: front.hemi, vertex: heaviestVertex(front.weights, this.level, this.topology) };
  }
}
