// WebGL2 in a few words: programs, buffers, and 4 x 4 matrices (column by column, as shaders take them).

export function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, `#version 300 es\nprecision highp float;\n${source}`);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(made, shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(made));
  return { made, at: (name) => gl.getUniformLocation(made, name) };
}

/** Arrays of numbers as attributes 0, 1, ...; `sizes` are the numbers a vertex has in each. */
export function vertexArray(gl, arrays, sizes, corners) {
  const made = gl.createVertexArray(), buffers = [];
  gl.bindVertexArray(made);
  arrays.forEach((array, place) => {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ARRAY_BUFFER, array, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(place);
    gl.vertexAttribPointer(place, sizes[place], gl.FLOAT, false, 0, 0);
    buffers.push(buffer);
  });
  if (corners) {
    const buffer = gl.createBuffer();
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, buffer);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, corners, gl.STATIC_DRAW);
    buffers.push(buffer);
  }
  gl.bindVertexArray(null);
  return {
    made, count: corners ? corners.length : arrays[0].length / sizes[0],
    free: () => { gl.deleteVertexArray(made); buffers.forEach((buffer) => gl.deleteBuffer(buffer)); },
  };
}

/** World to clip coordinates: a camera that looks at `centre`, with perspective. */
export function cameraMatrix({ right, up, back, centre, distance, aspect, near, far }) {
  const f = 3.2, fx = aspect > 1 ? f / aspect : f, fy = aspect > 1 ? f : f * aspect;
  const eye = [0, 1, 2].map((i) => centre[i] + back[i] * distance);
  const rows = [right, up, back].map((axis) => [...axis, -(axis[0] * eye[0] + axis[1] * eye[1] + axis[2] * eye[2])]);
  const [x, y, z] = rows, p = (far + near) / (near - far), q = (2 * far * near) / (near - far);
  const out = new Float32Array(16);
  for (let j = 0; j < 4; j++) {
    out[4 * j] = fx * x[j];
    out[4 * j + 1] = fy * y[j];
    out[4 * j + 2] = p * z[j] + (j === 3 ? q : 0);
    out[4 * j + 3] = -z[j];
  }
  return { matrix: out, eye };
}
