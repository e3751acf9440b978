// Pixels to canvases: window and level, what was removed, and the map's colours.

const MAP_LEVELS = 63;
// Dark violet, magenta, orange, pale yellow; below zero, dark to pale blue.
const COLOURS = [[59, 15, 112], [181, 54, 122], [251, 136, 97], [252, 253, 191]];
const BELOW = [[8, 48, 107], [33, 113, 181], [75, 176, 230], [180, 240, 255]];

function fresh(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

// Codes as grey: low is black and high is white, or the other way round.
function paintGrey(canvas, codes, zero, step, low, high, inverted) {
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const out = new Uint32Array(image.data.buffer);
  const scale = 255 / Math.max(high - low, 1e-9);
  const gain = inverted ? -step * scale : step * scale;
  const start = inverted ? 255 - (zero - low) * scale : (zero - low) * scale;
  for (let i = 0; i < codes.length; i++) {
    const value = start + gain * codes[i];
    const grey = value <= 0 ? 0 : value >= 255 ? 255 : (value + 0.5) | 0;
    out[i] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  context.putImageData(image, 0, 0);
}

// Nothing is transparent, much is opaque.
function paintMap(map) {
  const canvas = fresh(map.width, map.height);
  const context = canvas.getContext("2d");
  const image = context.createImageData(map.width, map.height);
  map.levels.forEach((level, i) => {
    const share = Math.abs(level) / MAP_LEVELS, at = share * (COLOURS.length - 1);
    const colours = level < 0 ? BELOW : COLOURS;
    const first = Math.min(Math.floor(at), COLOURS.length - 2), rest = at - first;
    for (let c = 0; c < 3; c++) {
      image.data[4 * i + c] = colours[first][c] * (1 - rest) + colours[first + 1][c] * rest;
    }
    image.data[4 * i + 3] = 255 * Math.min(1, 2 * share);
  });
  context.putImageData(image, 0, 0);
  return canvas;
}

// The 1st and 99.5th percentile of a picture, in real units.
function autoWindow(pixels) {
  const sorted = Int32Array.from(pixels.before).sort();
  const at = (share) => pixels.zero + pixels.step * sorted[Math.round(share * (sorted.length - 1))];
  const low = at(0.01), high = at(0.995);
  return [low, high > low ? high : low + pixels.step];
}
