// The diagram: a column a node, time downwards. Only what is in view is drawn, and less of it the more there is.

const diagram = document.getElementById("diagram");
const overview = document.getElementById("overview");
const pen = diagram.getContext("2d");
const small = overview.getContext("2d");
const AXIS = 74;
const HEAD = 30;
const view = {
  from: 0, perPixel: 1000, left: 0, cursor: 0, playing: false,
  hidden: new Set(), nodes: [...Array(raw.nodes).keys()], focus: null, selected: null, hover: null, hits: new Set(),
  width: 0, height: 0, column: 60, drawn: 0, thinned: false,
};
let colour = {};

function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["paper", "panel", "line", "ink", "soft", "faint", "accent", "lane", "life", "calls", "events", "links", "directory",
    "upkeep", "packets", "lease", "done", "refused", "failed", "dropped", "open", "network", "node", "rights", "lost", "broken", "good", "hatch"]) {
    colour[name] = style.getPropertyValue("--" + name).trim();
  }
  hatching = null;
}

const yOf = (at) => HEAD + (at - view.from) / view.perPixel;
const atOf = (y) => view.from + (y - HEAD) * view.perPixel;
let placeOfNode = [];
const xOf = (node) => AXIS + (placeOfNode[node] + 0.5) * view.column - view.left;
const shown = (node) => placeOfNode[node] >= 0;

function layOut() {
  placeOfNode = Array(raw.nodes).fill(-1);
  view.nodes.forEach((node, place) => (placeOfNode[node] = place));
  const room = view.width - AXIS - 8;
  view.column = Math.max(15, Math.min(260, room / Math.max(1, view.nodes.length)));
  view.left = Math.max(0, Math.min(view.left, view.column * view.nodes.length - room));
}

function resize() {
  const ratio = window.devicePixelRatio || 1;
  for (const canvas of [diagram, overview]) {
    const box = canvas.getBoundingClientRect();
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  }
  const box = diagram.getBoundingClientRect();
  [view.width, view.height] = [box.width, box.height];
  layOut();
}

let waiting = false;
function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; draw(); });
}

let hatching = null;
function hatch() {
  if (hatching) return hatching;
  const tile = document.createElement("canvas");
  tile.width = tile.height = 7;
  const p = tile.getContext("2d");
  p.strokeStyle = colour.hatch;
  p.beginPath(); p.moveTo(0, 7); p.lineTo(7, 0); p.moveTo(-2, 2); p.lineTo(2, -2); p.moveTo(5, 9); p.lineTo(9, 5); p.stroke();
  return (hatching = pen.createPattern(tile, "repeat"));
}

function draw() {
  const until = atOf(view.height);
  pen.clearRect(0, 0, view.width, view.height);
  pen.save();
  pen.beginPath(); pen.rect(AXIS, HEAD, view.width, view.height); pen.clip();
  drawLanes(until);
  drawFaults(until);
  drawLeases(until);
  drawLives(until);
  drawLinks(until);
  drawOperations(until);
  drawMessages(until);
  drawMarks(until);
  pen.restore();
  drawAxis(until);
  drawFailures(until);
  drawSelection();
  drawHeads();
  drawOverview();
  document.documentElement.dataset.drawn = view.drawn;
}

function drawLanes(until) {
  const bottom = Math.min(view.height, yOf(END));
  for (const node of view.nodes) {
    const x = xOf(node);
    if (x < AXIS - view.column || x > view.width + view.column) continue;
    const wide = Math.min(view.column - 4, Math.max(10, view.column * 0.62));
    pen.fillStyle = colour.lane;
    pen.globalAlpha = view.focus === null || view.focus === node ? 0.75 : 0.3;
    pen.fillRect(x - wide / 2, Math.max(HEAD, yOf(0)), wide, bottom - Math.max(HEAD, yOf(0)));
  }
  pen.globalAlpha = 1;
}

function drawFaults(until) {
  pen.font = "11px system-ui, sans-serif";
  const labels = [];
  for (const fault of faults) {
    const end = untilEnd(fault.until);
    if (fault.from > until || end < view.from || !fault.nodes.length) continue;
    const [top, bottom] = [Math.max(yOf(fault.from), HEAD), Math.max(yOf(end), yOf(fault.from) + 2)];
    pen.fillStyle = colour[familyOf(fault)];
    let first = true;
    for (const node of fault.nodes) {
      if (!shown(node)) continue;
      const x = xOf(node) - view.column / 2 + 1;
      pen.fillRect(x, top, view.column - 2, bottom - top);
      if (first && bottom - top > 15 && view.column > 44) {
        const clash = labels.filter((label) => Math.abs(label.x - x) < 4 && Math.abs(label.y - top) < 13).length;
        labels.push({ x, y: top, words: fault.kind, line: clash });
        first = false;
      }
    }
  }
  pen.fillStyle = colour.soft;
  for (const { x, y, words, line } of labels) pen.fillText(words, x + 4, y + 12 + line * 13, view.column - 8);
}

function drawLives(until) {
  for (const node of view.nodes) {
    const x = xOf(node);
    let before = 0;
    const gap = (from, to) => {
      if (to <= from || to < view.from || from > until) return;
      pen.fillStyle = hatch();
      pen.fillRect(x - view.column * 0.31, Math.max(yOf(from), HEAD), view.column * 0.62, Math.min(yOf(to), view.height) - Math.max(yOf(from), HEAD));
    };
    for (const life of livesOf[node]) {
      gap(before, life.from);
      before = untilEnd(life.until);
      if (life.from > until || before < view.from) continue;
      pen.strokeStyle = view.focus === node ? colour.accent : colour.life;
      pen.lineWidth = view.column < 40 ? 1 : 1.5;
      const [top, bottom] = [Math.max(yOf(life.from), HEAD - 4), Math.min(yOf(before), view.height + 4)];
      pen.beginPath(); pen.moveTo(x, top); pen.lineTo(x, bottom); pen.stroke();
      pen.fillStyle = colour.life;
      if (yOf(life.from) >= HEAD) { pen.beginPath(); pen.arc(x, yOf(life.from), 3.5, 0, 7); pen.fill(); }
      if (life.until !== NONE && yOf(before) <= view.height) {
        const y = yOf(before);
        pen.strokeStyle = colour.broken; pen.lineWidth = 2;
        pen.beginPath(); pen.moveTo(x - 5, y - 5); pen.lineTo(x + 5, y + 5); pen.moveTo(x + 5, y - 5); pen.lineTo(x - 5, y + 5); pen.stroke();
      }
    }
    gap(before, END);
  }
  pen.lineWidth = 5;
  pen.strokeStyle = colour.refused;
  pen.globalAlpha = 0.7;
  for (const pause of pauses) {
    if (!shown(pause.node) || pause.from > until || untilEnd(pause.until) < view.from) continue;
    const x = xOf(pause.node);
    pen.setLineDash([3, 4]);
    pen.beginPath(); pen.moveTo(x, Math.max(yOf(pause.from), HEAD)); pen.lineTo(x, Math.min(yOf(untilEnd(pause.until)), view.height)); pen.stroke();
  }
  pen.setLineDash([]);
  pen.globalAlpha = 1;
}

const leaseWide = () => Math.max(5, Math.min(11, view.column * 0.3));

/** Who holds the lease: a band on its lane, with the token where there is room. */
function drawLeases(until) {
  if (view.hidden.has("lease-bars")) return;
  const wide = leaseWide();
  pen.font = "600 11px system-ui, sans-serif";
  for (const lease of leases) {
    const end = untilEnd(lease.until);
    if (lease.from > until || end < view.from || !shown(lease.node)) continue;
    const [x, top] = [xOf(lease.node), Math.max(yOf(lease.from), HEAD)];
    const tall = Math.max(3, Math.min(yOf(end), view.height) - top);
    pen.fillStyle = colour.lease;
    pen.globalAlpha = view.focus === null || view.focus === lease.node ? 0.55 : 0.2;
    pen.fillRect(x - wide / 2, top, wide, tall);
    pen.globalAlpha = 1;
    if (view.column > 60 && tall > 34) {
      pen.save();
      pen.translate(x - wide / 2 - 3, top + 5); pen.rotate(-Math.PI / 2); pen.textAlign = "right";
      const words = pen.measureText(lease.token).width;
      pen.globalAlpha = 0.85; pen.fillStyle = colour.lane; pen.fillRect(-words - 2, -9, words + 4, 11);
      pen.globalAlpha = 1; pen.fillStyle = colour.lease; pen.fillText(lease.token, 0, 0);
      pen.restore();
    }
  }
}

const linkX = (link) => xOf(link.node) + 7 + link.place * 4;
const linkPlaces = () => Math.max(0, Math.min(16, Math.floor((view.column * 0.44 - 7) / 4)));

function drawLinks(until) {
  if (view.hidden.has("bars")) return;
  const places = linkPlaces();
  if (places < 2) return;
  pen.fillStyle = colour.links;
  pen.globalAlpha = 0.5;
  for (const node of view.nodes) {
    for (const link of linksOf[node]) {
      const end = untilEnd(link.until);
      if (link.place >= places || link.from > until || end < view.from) continue;
      const top = Math.max(yOf(link.from), HEAD);
      pen.fillRect(linkX(link) - 1, top, 2, Math.max(2, Math.min(yOf(end), view.height) - top));
    }
  }
  pen.globalAlpha = 1;
}

const operationX = (operation) => xOf(operation.node) - 9 - operation.place * 6;
const operationPlaces = () => Math.max(view.column > 30 ? 1 : 0, Math.min(6, Math.floor((view.column * 0.44 - 7) / 6)));

function drawOperations(until) {
  const places = operationPlaces();
  for (const operation of operations) {
    if (operation.from > until) break;
    const end = untilEnd(operation.until);
    if (end < view.from || operation.place >= places || !shown(operation.node) || view.hidden.has(operation.doing + "-bars")) continue;
    const [top, x] = [yOf(operation.from), operationX(operation)];
    const tall = Math.max(2, yOf(end) - top);
    pen.fillStyle = colour[operation.ending];
    pen.globalAlpha = view.focus === null || view.focus === operation.node ? 0.85 : 0.25;
    if (operation.ending === "open") {
      pen.strokeStyle = colour.open; pen.lineWidth = 1;
      pen.strokeRect(x - 1.5, top, 3, tall);
    } else {
      pen.fillRect(x - 2, top, 4, tall);
    }
  }
  pen.globalAlpha = 1;
}

/** Calls back for every message in view that the filters let through. */
function eachMessage(until, with_) {
  const last = lowerBound(M.at, until);
  const hidden = kinds.map((kind) => view.hidden.has(kind.name) || view.hidden.has(kind.group));
  for (let i = lowerBound(M.at, view.from - tookMax); i < last; i++) {
    const [from, to] = [M.from[i], M.to[i]];
    if (hidden[M.kind[i]] || placeOfNode[from] < 0 || placeOfNode[to] < 0) continue;
    if (view.focus !== null && from !== view.focus && to !== view.focus) continue;
    if (M.at[i] + M.took[i] < view.from) continue;
    with_(i);
  }
}

function drawMessages(until) {
  const chosen = [];
  const taken = new Set();
  // A frame says more than the packets that it is in: it comes first, and is drawn above them.
  const packets = [];
  eachMessage(until, (i) => (kinds[M.kind[i]].group === "packets" ? packets : chosen).push(i));
  chosen.push(...packets);
  // Where a pixel row of a pair has several, one stands for all.
  view.thinned = chosen.length > 5000;
  const lines = new Map();
  const lost = [];
  view.drawn = 0;
  for (const i of chosen) {
    if (view.thinned) {
      const key = ((M.from[i] * raw.nodes + M.to[i]) * 4096) + (Math.floor(yOf(M.at[i])) & 4095);
      if (taken.has(key)) continue;
      taken.add(key);
    }
    view.drawn += 1;
    if (M.fate[i] === LOST || M.fate[i] === UNHEARD) { lost.push(i); continue; }
    const group = kinds[M.kind[i]].group;
    if (!lines.has(group)) lines.set(group, []);
    lines.get(group).push(i);
  }
  const heads = view.drawn < 1500;
  const dense = Math.max(0.12, Math.min(0.9, 900 / Math.max(1, view.drawn)));
  for (const [group, list] of [...lines].sort(([a], [b]) => (b === "packets") - (a === "packets"))) {
    pen.strokeStyle = pen.fillStyle = colour[group];
    pen.lineWidth = heads ? 1.1 : 0.8;
    pen.globalAlpha = Math.min(group === "upkeep" ? 0.5 : 0.95, dense);
    pen.beginPath();
    for (const i of list) {
      const [x1, y1, x2, y2] = ends(i);
      pen.moveTo(x1, y1); pen.lineTo(x2, y2);
    }
    pen.stroke();
    if (heads) {
      pen.beginPath();
      for (const i of list) {
        const [x1, y1, x2, y2] = ends(i);
        const long = Math.hypot(x2 - x1, y2 - y1) || 1;
        const [ux, uy] = [(x2 - x1) / long, (y2 - y1) / long];
        pen.moveTo(x2, y2);
        pen.lineTo(x2 - ux * 8 - uy * 3, y2 - uy * 8 + ux * 3);
        pen.lineTo(x2 - ux * 8 + uy * 3, y2 - uy * 8 - ux * 3);
      }
      pen.fill();
    }
  }
  drawLost(lost);
  if (chosen.length < 260) drawLabels(chosen);
  drawUnderWay(chosen);
  pen.globalAlpha = 1;
}

const ends = (i) => [xOf(M.from[i]), yOf(M.at[i]), xOf(M.to[i]), yOf(M.at[i] + M.took[i])];

function drawLost(lost) {
  pen.strokeStyle = colour.lost;
  pen.lineWidth = 1;
  pen.globalAlpha = Math.max(0.1, Math.min(0.9, 400 / Math.max(1, lost.length)));
  pen.setLineDash([4, 3]);
  const cross = new Path2D();
  pen.beginPath();
  for (const i of lost) {
    const [x1, y1, x2, y2] = ends(i);
    // One that is lost gets half its way; one that nobody hears gets there.
    const part = M.fate[i] === LOST ? 0.5 : 0.97;
    const [x, y] = [x1 + (x2 - x1) * part, y1 + (y2 - y1) * part];
    pen.moveTo(x1, y1); pen.lineTo(x, y);
    if (lost.length > 1500) continue;
    cross.moveTo(x - 3.5, y - 3.5); cross.lineTo(x + 3.5, y + 3.5);
    cross.moveTo(x + 3.5, y - 3.5); cross.lineTo(x - 3.5, y + 3.5);
  }
  pen.stroke();
  pen.setLineDash([]);
  pen.lineWidth = 1.6;
  pen.stroke(cross);
}

function drawLabels(chosen) {
  pen.font = "11px system-ui, sans-serif";
  const taken = [];
  for (const i of chosen) {
    const [x1, y1, x2, y2] = ends(i);
    const room = Math.abs(x2 - x1) - 26;
    if (room < 40) continue;
    const words = `${kinds[M.kind[i]].name} ${text(M.what[i])}`.trim();
    const natural = pen.measureText(words).width;
    const wide = Math.min(natural, room);
    if (wide < natural * 0.8) continue;
    // Near its sender, where the arrow is not another's yet.
    const x = x1 < x2 ? x1 + 13 : x1 - 13 - wide;
    const y = y1 + (y2 - y1) * (13 + wide / 2) / Math.abs(x2 - x1) - 3;
    if (taken.some((t) => Math.abs(t.y - y) < 12 && x < t.x + t.wide && t.x < x + wide)) continue;
    taken.push({ x, y, wide });
    pen.globalAlpha = 0.8;
    pen.fillStyle = colour.paper;
    pen.fillRect(x - 2, y - 9, wide + 4, 11);
    pen.globalAlpha = 1;
    pen.fillStyle = M.fate[i] === LOST ? colour.lost : colour[kinds[M.kind[i]].group];
    pen.fillText(words, x, y, room);
  }
}

/** What is under way at the time of the cursor. */
function drawUnderWay(chosen) {
  if (view.cursor <= 0) return;
  pen.globalAlpha = 1;
  for (const i of chosen) {
    const gone = view.cursor - M.at[i];
    if (gone < 0 || gone > M.took[i] || M.fate[i] === LOST) continue;
    const [x1, y1, x2, y2] = ends(i);
    const part = M.took[i] ? gone / M.took[i] : 1;
    pen.fillStyle = colour[kinds[M.kind[i]].group];
    pen.beginPath(); pen.arc(x1 + (x2 - x1) * part, y1 + (y2 - y1) * part, 4, 0, 7); pen.fill();
  }
}

const MARKS = { life: "ink", peer: "links", service: "directory", call: "calls", event: "events", rights: "refused", note: "accent" };

// What goes with messages is left to them where there is much.
const DENSE = new Set(["call", "event"]);

function drawMarks(until) {
  if (view.hidden.has("marks")) return;
  const rows_ = Array(raw.nodes).fill(-9);
  const last = lowerBound(K.at, until);
  for (let i = lowerBound(K.at, view.from); i < last; i++) {
    const node = K.node[i];
    if (!shown(node) || (view.thinned && DENSE.has(raw.abouts[K.about[i]]))) continue;
    const [x, y] = [xOf(node), yOf(K.at[i])];
    if (y - rows_[node] < 4) continue;
    rows_[node] = y;
    pen.fillStyle = colour[MARKS[raw.abouts[K.about[i]]]];
    pen.globalAlpha = view.focus === null || view.focus === node ? 0.9 : 0.3;
    pen.beginPath(); pen.moveTo(x, y - 3); pen.lineTo(x + 3, y); pen.lineTo(x, y + 3); pen.lineTo(x - 3, y); pen.fill();
  }
  pen.globalAlpha = 1;
}

function step() {
  const least = 62 * view.perPixel;
  const power = 10 ** Math.floor(Math.log10(least));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= least);
}

function drawAxis(until) {
  pen.fillStyle = colour.paper;
  pen.fillRect(0, HEAD, AXIS, view.height);
  // What concerns all nodes is a bar at the side.
  let place = 0;
  const ends_ = [];
  pen.font = "10px system-ui, sans-serif";
  for (const fault of faults) {
    if (fault.nodes.length) continue;
    place = ends_.findIndex((end) => end <= fault.from);
    if (place < 0) place = ends_.length;
    ends_[place] = untilEnd(fault.until);
    if (fault.from > until || untilEnd(fault.until) < view.from) continue;
    const [top, bottom] = [Math.max(HEAD, yOf(fault.from)), Math.min(view.height, Math.max(yOf(untilEnd(fault.until)), yOf(fault.from) + 2))];
    const x = AXIS - 6 - (place % 2) * 12;
    pen.fillStyle = colour[familyOf(fault)];
    pen.fillRect(x - 5, top, 11, bottom - top);
    if (bottom - top > 60) {
      pen.save();
      pen.translate(x + 3.5, top + 6); pen.rotate(-Math.PI / 2); pen.textAlign = "right";
      pen.fillStyle = colour.soft; pen.fillText(fault.kind, 0, 0); pen.restore();
    }
  }
  pen.font = "11px ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace";
  const each = step();
  const digits = Math.max(0, Math.min(6, 6 - Math.floor(Math.log10(each))));
  for (let at = Math.ceil(Math.max(0, view.from) / each) * each; at <= Math.min(until, END); at += each) {
    const y = yOf(at);
    pen.fillStyle = colour.soft; pen.textAlign = "left";
    pen.fillText((at / 1e6).toFixed(digits), 4, y + 4, AXIS - 30);
    pen.strokeStyle = colour.line; pen.globalAlpha = 0.6; pen.lineWidth = 1;
    pen.beginPath(); pen.moveTo(AXIS, y); pen.lineTo(view.width, y); pen.stroke();
    pen.globalAlpha = 1;
  }
  rule(view.cursor, colour.accent, "", []);
  if (raw.healed !== NONE) rule(raw.healed, colour.good, "faults are over", [6, 4]);
  if (raw.leftOut.before > 0) rule(raw.leftOut.before, colour.refused, "before this, messages were left out", [2, 3]);
  rule(END, colour.life, "end of the run", [6, 4]);
}

function rule(at, ink, words, dashes) {
  const y = yOf(at);
  if (y < HEAD || y > view.height) return;
  pen.strokeStyle = pen.fillStyle = ink;
  pen.lineWidth = 1.2;
  pen.setLineDash(dashes);
  pen.beginPath(); pen.moveTo(AXIS - 4, y); pen.lineTo(view.width, y); pen.stroke();
  pen.setLineDash([]);
  pen.font = "11px system-ui, sans-serif";
  pen.fillText(words, AXIS + 4, y - 4);
}

function drawFailures(until) {
  let above = -99;
  breaches.forEach((breach) => {
    if (breach.at < view.from || breach.at > until) return;
    const y = yOf(breach.at);
    pen.strokeStyle = colour.broken;
    pen.lineWidth = 2;
    pen.beginPath(); pen.moveTo(AXIS, y); pen.lineTo(view.width, y); pen.stroke();
    if (breach.node !== NONE && shown(breach.node)) { pen.beginPath(); pen.arc(xOf(breach.node), y, 9, 0, 7); pen.stroke(); }
    if (y - above < 22) return;
    above = y;
    pen.font = "600 12px system-ui, sans-serif";
    const words = `✗ ${breach.rule}`;
    const wide = pen.measureText(words).width;
    pen.fillStyle = colour.broken;
    pen.fillRect(view.width - wide - 22, y + 3, wide + 14, 20);
    pen.fillStyle = colour.paper;
    pen.fillText(words, view.width - wide - 15, y + 17);
  });
}

function drawSelection() {
  for (const [thing, ink] of [[view.hover, colour.soft], [view.selected, colour.accent]]) {
    if (!thing) continue;
    pen.strokeStyle = ink;
    pen.lineWidth = 3;
    const place = placeOf(thing);
    if (place.nodes.some((node) => !shown(node))) continue;
    pen.save();
    pen.beginPath(); pen.rect(AXIS, HEAD, view.width, view.height); pen.clip();
    pen.beginPath();
    if (thing.type === "message") {
      const [x1, y1, x2, y2] = ends(thing.index);
      pen.moveTo(x1, y1); pen.lineTo(x2, y2);
    } else if (thing.type === "operation") {
      const x = operationX(operations[thing.index]);
      pen.rect(x - 4, yOf(place.at) - 2, 8, Math.max(2, yOf(place.until) - yOf(place.at)) + 4);
      // Where its handler ran.
      for (const [node, at] of operations[thing.index].seen) {
        if (shown(node)) { pen.moveTo(xOf(node) + 8, yOf(at)); pen.arc(xOf(node), yOf(at), 8, 0, 7); }
      }
    } else if (thing.type === "lease") {
      const wide = leaseWide() + 4;
      pen.rect(xOf(place.nodes[0]) - wide / 2, yOf(place.at) - 2, wide, Math.max(2, yOf(place.until) - yOf(place.at)) + 4);
    } else if (thing.type === "link") {
      pen.moveTo(linkX(links[thing.index]), yOf(place.at)); pen.lineTo(linkX(links[thing.index]), yOf(place.until));
    } else if (place.nodes.length && thing.type !== "fault") {
      pen.arc(xOf(place.nodes[0]), yOf(place.at), 8, 0, 7);
    } else {
      for (const node of place.nodes) pen.rect(xOf(node) - view.column / 2 + 1, yOf(place.at), view.column - 2, yOf(place.until) - yOf(place.at));
    }
    pen.stroke();
    pen.restore();
  }
}

function drawHeads() {
  pen.fillStyle = colour.paper;
  pen.fillRect(0, 0, view.width, HEAD);
  pen.strokeStyle = colour.line; pen.lineWidth = 1;
  pen.beginPath(); pen.moveTo(0, HEAD - 0.5); pen.lineTo(view.width, HEAD - 0.5); pen.stroke();
  pen.fillStyle = colour.soft; pen.font = "11px system-ui, sans-serif"; pen.textAlign = "left";
  pen.fillText("seconds", 4, 19);
  pen.textAlign = "center";
  for (const node of view.nodes) {
    const x = xOf(node);
    if (x < AXIS) continue;
    pen.font = `${view.focus === node ? 700 : 600} ${view.column < 34 ? 10 : 12}px system-ui, sans-serif`;
    pen.fillStyle = view.focus === node ? colour.accent : colour.ink;
    pen.fillText(view.column < 26 ? node : `n${node}`, x, 19);
  }
  pen.textAlign = "left";
  if (view.thinned) {
    pen.font = "10px system-ui, sans-serif"; pen.fillStyle = colour.soft; pen.textAlign = "right";
    pen.fillText("one line stands for several: zoom in", view.width - 8, HEAD - 3);
    pen.textAlign = "left";
  }
}

const BUCKETS = 300;
const density = new Float64Array(BUCKETS);
for (let i = 0; i < M.count; i++) {
  if (!["upkeep", "packets"].includes(kinds[M.kind[i]].group)) density[Math.min(BUCKETS - 1, Math.floor(M.at[i] / END * BUCKETS))] += 1;
}
const densityMax = density.reduce((most, n) => Math.max(most, n), 1);

function drawOverview() {
  const box = overview.getBoundingClientRect();
  const y = (at) => at / END * box.height;
  small.clearRect(0, 0, box.width, box.height);
  for (const fault of faults) {
    small.fillStyle = colour[familyOf(fault)];
    small.fillRect(0, y(fault.from), box.width, Math.max(1, y(untilEnd(fault.until)) - y(fault.from)));
  }
  small.fillStyle = colour.soft;
  small.globalAlpha = 0.55;
  density.forEach((n, i) => small.fillRect(4, i / BUCKETS * box.height, Math.sqrt(n / densityMax) * (box.width - 12), box.height / BUCKETS + 0.3));
  small.globalAlpha = 1;
  if (raw.healed !== NONE) { small.fillStyle = colour.good; small.fillRect(0, y(raw.healed), box.width, 1.5); }
  small.fillStyle = colour.broken;
  breaches.forEach((breach) => small.fillRect(0, Math.min(y(breach.at), box.height - 3), box.width, 3));
  small.strokeStyle = colour.accent;
  small.lineWidth = 1.5;
  const tall = Math.max(6, (view.height - HEAD) * view.perPixel / END * box.height);
  small.strokeRect(1, y(view.from), box.width - 3, tall);
  small.fillStyle = colour.accent;
  small.globalAlpha = 0.1;
  small.fillRect(1, y(view.from), box.width - 3, tall);
  small.globalAlpha = 1;
  small.fillRect(0, y(view.cursor) - 0.5, box.width, 1.5);
}
