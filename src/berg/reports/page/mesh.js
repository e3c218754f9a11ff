// The fsaverage mesh, worked out in the page: only what cannot be computed is in the data.

const HEMISPHERES = ["lh", "rh"];
const MESH_LEVEL = 6; // fsaverage6: 40,962 vertices a hemisphere, about 1.5 mm apart
const NO_VALUE = -32768;

/** Decode base64 to little-endian numbers: what every browser of today runs on. */
function unpack(text, Kind) {
  return new Kind(Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer);
}

function countVertices(level) {
  return 10 * 4 ** level + 2;
}

/**
 * Split every face in four, in FreeSurfer's order; return the finer faces and the halved edges.
 * Vertices are numbered as the edges (c, a), (b, c), (a, b) of the faces are first met.
 */
function subdivide(faces, nVertices) {
  const numbers = new Map();
  const edges = [];
  const middle = (from, to) => {
    const key = Math.min(from, to) * nVertices + Math.max(from, to);
    let number = numbers.get(key);
    if (number === undefined) {
      number = nVertices + numbers.size;
      numbers.set(key, number);
      edges.push(from, to);
    }
    return number;
  };
  const finer = new Uint32Array(4 * faces.length);
  for (let face = 0; face < faces.length; face += 3) {
    const [a, b, c] = faces.subarray(face, face + 3);
    const ca = middle(c, a);
    const bc = middle(b, c);
    const ab = middle(a, b);
    finer.set([a, ab, ca], face);
    finer.set([ca, bc, c, ab, bc, ca, ab, b, bc], faces.length + 3 * face);
  }
  return { faces: finer, edges: Uint32Array.from(edges) };
}

/** Faces of the mesh and of the next coarser one, and the edges of every coarser level. */
function buildTopology(icosahedron) {
  let faces = Uint32Array.from(icosahedron);
  let coarser = faces;
  const edges = [];
  for (let level = 0; level < MESH_LEVEL; level++) {
    const finer = subdivide(faces, countVertices(level));
    edges.push(finer.edges);
    coarser = faces;
    faces = finer.faces;
  }
  return { faces, coarser, edges };
}

/** Interpolate values, `width` numbers a vertex, to the mesh: the middle of an edge has its mean. */
function upsample(values, width, topology) {
  let level = 0;
  while (countVertices(level) * width < values.length) level++;
  let fine = Float32Array.from(values);
  for (; level < MESH_LEVEL; level++) {
    const coarse = fine;
    const edges = topology.edges[level];
    fine = new Float32Array(countVertices(level + 1) * width);
    fine.set(coarse);
    for (let edge = 0; 2 * edge < edges.length; edge++) {
      for (let i = 0; i < width; i++) {
        const ends = coarse[edges[2 * edge] * width + i] + coarse[edges[2 * edge + 1] * width + i];
        fine[coarse.length + edge * width + i] = ends / 2;
      }
    }
  }
  return fine;
}

/** Outward unit normals: the mean of the faces around, weighted by area. */
function vertexNormals(positions, faces) {
  const normals = new Float32Array(positions.length);
  for (let face = 0; face < faces.length; face += 3) {
    const [a, b, c] = [3 * faces[face], 3 * faces[face + 1], 3 * faces[face + 2]];
    const u = [0, 1, 2].map((i) => positions[b + i] - positions[a + i]);
    const v = [0, 1, 2].map((i) => positions[c + i] - positions[a + i]);
    const normal = [
      u[1] * v[2] - u[2] * v[1],
      u[2] * v[0] - u[0] * v[2],
      u[0] * v[1] - u[1] * v[0],
    ];
    for (const corner of [a, b, c]) {
      for (let i = 0; i < 3; i++) normals[corner + i] += normal[i];
    }
  }
  for (let at = 0; at < normals.length; at += 3) {
    const length = Math.hypot(normals[at], normals[at + 1], normals[at + 2]) || 1;
    for (let i = 0; i < 3; i++) normals[at + i] /= length;
  }
  return normals;
}

/** 1 inside of a region and 0 outside, its border evened out so that it draws as a smooth line. */
function softRegion(vertices, level, topology) {
  const mask = new Float32Array(countVertices(level));
  for (const vertex of vertices) mask[vertex] = 1;
  let soft = upsample(mask, 1, topology);
  for (let round = 0; round < 3; round++) {
    const sum = Float32Array.from(soft);
    const count = new Uint8Array(soft.length).fill(1);
    const add = (to, from) => {
      sum[to] += soft[from];
      count[to]++;
    };
    const faces = topology.faces;
    for (let face = 0; face < faces.length; face += 3) {
      // Every edge lies between two faces, which turn it in opposite senses.
      add(faces[face], faces[face + 1]);
      add(faces[face + 1], faces[face + 2]);
      add(faces[face + 2], faces[face]);
    }
    soft = sum.map((total, vertex) => total / count[vertex]);
  }
  return soft;
}

/**
 * What is seen at a place from far up the third axis: the depth of the foremost face there, and the
 * weights of its corners by vertex; or null.
 */
function faceAt(positions, faces, x, y) {
  let found = null;
  for (let face = 0; face < faces.length; face += 3) {
    const [a, b, c] = [3 * faces[face], 3 * faces[face + 1], 3 * faces[face + 2]];
    const [ax, ay] = [positions[a] - x, positions[a + 1] - y];
    const [bx, by] = [positions[b] - x, positions[b + 1] - y];
    const [cx, cy] = [positions[c] - x, positions[c + 1] - y];
    // Twice the areas across from the corners. None is negative inside of a face that looks at us.
    const [forA, forB, forC] = [bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx];
    const area = forA + forB + forC;
    if (!(forA >= 0 && forB >= 0 && forC >= 0 && area > 0)) continue;
    const [za, zb, zc] = [positions[a + 2], positions[b + 2], positions[c + 2]];
    const depth = (forA * za + forB * zb + forC * zc) / area;
    if (found && found.depth >= depth) continue;
    const weights = new Map([[a / 3, forA / area], [b / 3, forB / area], [c / 3, forC / area]]);
    found = { depth, weights };
  }
  return found;
}

/** The vertex of a coarser level with the largest weight: a vertex between two gives half to each. */
function heaviestVertex(weights, level, topology) {
  let shares = weights;
  for (let finer = MESH_LEVEL - 1; finer >= level; finer--) {
    const coarse = new Map();
    for (const [vertex, weight] of shares) {
      const edge = 2 * (vertex - countVertices(finer));
      const ends = edge < 0 ? [vertex, vertex] : topology.edges[finer].subarray(edge, edge + 2);
      for (const end of ends) coarse.set(end, (coarse.get(end) ?? 0) + weight / 2);
    }
    shares = coarse;
  }
  return [...shares].reduce((best, each) => (each[1] > best[1] ? each : best))[0];
}
