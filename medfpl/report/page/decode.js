"use strict";
// Blocks of the page back to pixels: what medfpl/report/codes.py writes.

const ESCAPE = 255;

async function inflate(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// The folded numbers of some planes of n pixels: bytes first, then the long ones of all planes.
function unfold(bytes, n, planes) {
  const out = [];
  let long = n * planes;
  for (let p = 0; p < planes; p++) {
    const plane = new Int32Array(n);
    for (let i = 0; i < n; i++) {
      let folded = bytes[p * n + i];
      if (folded === ESCAPE) {
        folded = bytes[long] | (bytes[long + 1] << 8);
        long += 2;
      }
      plane[i] = folded & 1 ? -(folded + 1) / 2 : folded / 2;
    }
    out.push(plane);
  }
  return out;
}

// In place: residuals to codes, each predicted from its left, upper and upper left neighbour.
function unpredict(codes, height, width) {
  for (let x = 1; x < width; x++) codes[x] += codes[x - 1];
  for (let y = 1; y < height; y++) {
    let i = y * width;
    codes[i] += codes[i - width];
    for (let x = 1; x < width; x++) {
      i++;
      const left = codes[i - 1], above = codes[i - width], corner = codes[i - width - 1];
      const low = Math.min(left, above), high = Math.max(left, above);
      codes[i] += corner >= high ? low : corner <= low ? high : left + above - corner;
    }
  }
  return codes;
}

async function decodePair(slice) {
  const [height, width] = slice.size, n = height * width;
  const [after, removed] = unfold(await inflate(slice.pair), n, 2);
  unpredict(after, height, width);
  const before = new Int32Array(n);
  for (let i = 0; i < n; i++) before[i] = after[i] + removed[i];
  const [zero, step] = slice.grid;
  return { height, width, zero, step, before, after, removed };
}

async function decodeMap([size, id]) {
  const [height, width] = size;
  const [levels] = unfold(await inflate(id), height * width, 1);
  return { height, width, levels: unpredict(levels, height, width) };
}
