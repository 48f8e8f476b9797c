// What the hands do: zoom, pan, play, filter, search, and the detail of what is chosen.

const byId = (id) => document.getElementById(id);

function keepWithin() {
  const tall = (view.height - HEAD) * view.perPixel;
  view.from = Math.max(-0.03 * tall, Math.min(view.from, Math.max(0, END - 0.6 * tall)));
}
function zoom(by, y = HEAD + (view.height - HEAD) / 2) {
  const at = atOf(y);
  view.perPixel = Math.max(0.05, Math.min(1.06 * END / Math.max(50, view.height - HEAD), view.perPixel * by));
  view.from = at - (y - HEAD) * view.perPixel;
  keepWithin();
  redraw();
}
function showRange(from, until) {
  view.perPixel = Math.max(0.05, (until - from) / Math.max(50, view.height - HEAD));
  view.from = from;
  keepWithin();
  redraw();
}
function showWhole() {
  showRange(-0.01 * END, 1.03 * END);
}
function setCursor(at) {
  view.cursor = Math.max(0, Math.min(END, at));
  byId("scrub").value = view.cursor / END * 10000;
  byId("now").value = (view.cursor / 1e6).toFixed(3) + " s";
  redraw();
}

/** Brings a thing into view and chooses it. */
function goTo(thing) {
  const { at, nodes } = placeOf(thing);
  const missing = nodes.filter((node) => !shown(node));
  if (missing.length) { view.nodes = [...view.nodes, ...missing].sort((a, b) => a - b); layOut(); listNodes(); }
  if (view.focus !== null && nodes.length && !nodes.includes(view.focus)) view.focus = null;
  const tall = (view.height - HEAD) * view.perPixel;
  if (at < view.from + tall * 0.1 || at > view.from + tall * 0.9) view.from = at - tall * 0.5;
  if (nodes.length) {
    const x = xOf(nodes[0]);
    if (x < AXIS + 20 || x > view.width - 20) view.left += x - view.width / 2;
    layOut();
  }
  keepWithin();
  setCursor(at);
  choose(thing);
}

// What is readable at once: so many messages of those that are shown, and at most so long.
const READABLE = 90;
const READABLE_US = 2e6;

/** The time until which, or from which, a readable part of the run lasts. */
function readable(at, by) {
  const hidden = kinds.map((kind) => view.hidden.has(kind.name) || view.hidden.has(kind.group));
  let count = 0;
  for (let i = lowerBound(M.at, at) + (by < 0 ? -1 : 0); i >= 0 && i < M.count; i += by) {
    if (Math.abs(M.at[i] - at) > READABLE_US) break;
    if (!hidden[M.kind[i]] && ++count === READABLE) return M.at[i];
  }
  return at + by * READABLE_US;
}

function showFailure() {
  if (!breaches.length) return;
  const breach = breaches[0];
  // What did not come is missed since the faults were over.
  const since = summary.verdict === "liveness" ? raw.healed - 1e6 : readable(breach.at, -1);
  const tall = Math.max(20000, breach.at - since);
  showRange(breach.at - tall, breach.at + tall * 0.28);
  setCursor(breach.at);
  choose({ type: "breach", index: 0 });
}

/** The nearest thing to a point. */
function pick(x, y) {
  if (x < AXIS || y < HEAD) return null;
  let best = { far: 6, thing: null };
  const offer = (far, type, index) => { if (far < best.far) best = { far, thing: { type, index } }; };
  const [from, until] = [atOf(y - 7), atOf(y + 7)];
  breaches.forEach((breach, i) => {
    if (breach.node !== NONE && shown(breach.node)) offer(Math.hypot(x - xOf(breach.node), y - yOf(breach.at)) - 8, "breach", i);
    else if (x > view.width - 260) offer(Math.abs(yOf(breach.at) + 12 - y) - 9, "breach", i);
  });
  if (!view.hidden.has("marks")) {
    const last = lowerBound(K.at, until);
    for (let i = lowerBound(K.at, from); i < last; i++) {
      if (shown(K.node[i])) offer(Math.hypot(x - xOf(K.node[i]), y - yOf(K.at[i])) - 1, "mark", i);
    }
  }
  operations.forEach((operation, i) => {
    if (operation.place >= operationPlaces() || operation.from > until || untilEnd(operation.until) < from) return;
    if (shown(operation.node) && !view.hidden.has(operation.doing + "-bars")) offer(Math.abs(x - operationX(operation)) + 1, "operation", i);
  });
  if (!view.hidden.has("bars")) {
    links.forEach((link, i) => {
      if (link.place < linkPlaces() && shown(link.node) && link.from <= until && untilEnd(link.until) >= from) offer(Math.abs(x - linkX(link)) + 1.5, "link", i);
    });
  }
  if (!view.hidden.has("lease-bars")) {
    leases.forEach((lease, i) => {
      const inside = shown(lease.node) && Math.abs(x - xOf(lease.node)) <= leaseWide() / 2 && lease.from <= until && untilEnd(lease.until) >= from;
      if (inside) offer(5, "lease", i);
    });
  }
  eachMessage(until, (i) => {
    const [x1, y1, x2, y2] = ends(i);
    if (y < Math.min(y1, y2) - 6 || y > Math.max(y1, y2) + 6) return;
    const [dx, dy] = [x2 - x1, y2 - y1];
    const part = Math.max(0, Math.min(1, ((x - x1) * dx + (y - y1) * dy) / (dx * dx + dy * dy || 1)));
    offer(Math.hypot(x - x1 - dx * part, y - y1 - dy * part) + 0.5, "message", i);
  });
  if (!best.thing) {
    faults.forEach((fault, i) => {
      const inside = fault.nodes.some((node) => shown(node) && Math.abs(x - xOf(node)) < view.column / 2);
      if (inside && atOf(y) >= fault.from && atOf(y) <= untilEnd(fault.until)) best.thing = { type: "fault", index: i };
    });
  }
  return best.thing;
}

function choose(thing) {
  view.selected = thing;
  const detail = byId("detail");
  if (!thing) return overviewOfRun();
  const { title, rows: list } = describe(thing);
  const bad = thing.type === "breach" ? ' class="breach"' : "";
  let html = `<h2${bad}>${escaped(title)}</h2><dl>`;
  for (const [name, value] of list) if (value !== "") html += `<dt>${name}</dt><dd>${escaped(value)}</dd>`;
  html += "</dl>" + (thing.type === "breach" || thing.type === "mark" ? before(thing) : "");
  detail.innerHTML = html + '<p><a href="#" data-clear>the run</a></p>';
  detail.scrollTop = 0;
  document.documentElement.dataset.selected = thing.type;
  redraw();
}

const item = (type, index, at, words) => `<li><a href="#" data-type="${type}" data-index="${index}"><time>${(at / 1e6).toFixed(3)}</time><span>${escaped(words)}</span></a></li>`;

/** What its node did and noticed just before. */
function before(thing) {
  const { at, nodes } = placeOf(thing);
  const list = [];
  for (let i = lowerBound(K.at, at + 1) - 1; i >= 0 && list.length < 14; i--) {
    if (!nodes.length || nodes.includes(K.node[i])) list.push(item("mark", i, K.at[i], `n${K.node[i]} ${text(K.what[i])}`));
  }
  return `<h3>before it${nodes.length ? `, at n${nodes[0]}` : ""}</h3><ul>${list.reverse().join("")}</ul>`;
}

function overviewOfRun() {
  const s = summary;
  let html = `<h2>Seed ${s.seed}</h2>`;
  breaches.forEach((breach, i) => (html += `<div class="breach"><ul>${item("breach", i, breach.at, breach.rule)}</ul><p>${escaped(breach.what)}</p></div>`));
  html += `<dl><dt>fidelity</dt><dd>${s.fidelity}${s.fidelity === "packets" ? `, ${s.crypto}` : ""}</dd><dt>events</dt><dd>${s.events}</dd><dt>calls</dt><dd>${s.calls}, ${s.answered} answered</dd>`;
  html += `<dt>published</dt><dd>${s.published}, delivered ${s.delivered} times</dd><dt>hash</dt><dd><code>${s.hash ?? "none"}</code></dd></dl>`;
  html += `<p><code>${escaped(s.reproduce)}</code></p>`;
  if (raw.leftOut.messages + raw.leftOut.marks) {
    html += `<p>${raw.leftOut.messages} messages and ${raw.leftOut.marks} marks before ${clock(raw.leftOut.before)} were left out. To see them, record with --from and --until.</p>`;
  }
  html += `<h3>faults</h3><ul>${faults.map((f, i) => item("fault", i, f.from, `${f.kind} ${f.nodes.map((n) => `n${n}`).join(" ")} for ${span(untilEnd(f.until) - f.from)}`)).join("") || "none"}</ul>`;
  if (leases.length) html += `<h3>leases</h3><ul>${leases.map((l, i) => item("lease", i, l.from, `n${l.node} by ${l.token} for ${span(untilEnd(l.until) - l.from)}`)).join("")}</ul>`;
  const ink = (name, words) => `<span class="swatch" style="background:var(--${name})"></span><span>${words}</span>`;
  html += '<h3>what is what</h3><div class="legend">' + groups.map((group) => ink(group, group)).join("") + ink("lost", "lost, or nobody was there")
    + ink("done", "left of a lane: operations, done") + ink("refused", "refused; dashed on a lane: paused") + ink("failed", "failed")
    + ink("links", "right of a lane: links") + (leases.length ? ink("lease", "on a lane: holds the lease, by this token") : "") + "</div><h3>keys</h3><p>wheel zooms, drag moves, Shift+wheel moves sideways; space plays; "
    + "arrows move; + − 0 zoom; f searches; v goes to the failure; a click on a node’s name shows its messages alone.</p>";
  byId("detail").innerHTML = html;
  redraw();
}

function listKinds() {
  const counts = kinds.map(() => 0);
  for (let i = 0; i < M.count; i++) counts[M.kind[i]] += 1;
  const box = (name, words, count, kind, ink) => `<label${kind ? ' class="kind"' : ""}><input type="checkbox" data-name="${name}"${view.hidden.has(name) ? "" : " checked"}>`
    + (ink ? `<span class="swatch" style="background:var(--${ink})"></span>` : "") + `${words}<i>${count}</i></label>`;
  let html = "";
  for (const group of groups) {
    const of_ = kinds.map((kind, i) => ({ ...kind, count: counts[i] })).filter((kind) => kind.group === group && kind.count);
    if (!of_.length) continue;
    html += box(group, group, of_.reduce((all, kind) => all + kind.count, 0), false, group);
    if (of_.length > 1) for (const kind of of_) html += box(kind.name, kind.name, kind.count, true);
  }
  const doing = (name) => operations.filter((operation) => operation.doing === name).length;
  html += "<hr>" + box("call-bars", "calls as bars", doing("call")) + box("publish-bars", "publications as bars", doing("publish"))
    + box("bars", "links as bars", links.length) + (leases.length ? box("lease-bars", "leases as bars", leases.length, false, "lease") : "") + box("marks", "what nodes notice", K.count);
  byId("kinds").innerHTML = html;
}
function listNodes() {
  let html = '<label><input type="checkbox" data-node="all"' + (view.nodes.length === raw.nodes ? " checked" : "") + ">all</label>";
  for (let node = 0; node < raw.nodes; node++) html += `<label><input type="checkbox" data-node="${node}"${view.nodes.includes(node) ? " checked" : ""}>n${node}</label>`;
  byId("nodes").innerHTML = html;
  byId("nodes").className = raw.nodes > 12 ? "many" : "";
}

let hits = [];
let hit = -1;
function search() {
  const words = byId("search").value.trim().toLowerCase();
  [hits, hit] = [[], -1];
  byId("hits").value = "";
  if (!words) return;
  const has = strings.map((string) => string.toLowerCase().includes(words));
  const named = kinds.map((kind) => kind.name.includes(words));
  const both = kinds.map((kind) => words.startsWith(kind.name + " ") ? words.slice(kind.name.length + 1) : null);
  const hidden = kinds.map((kind) => view.hidden.has(kind.name) || view.hidden.has(kind.group));
  for (let i = 0; i < M.count; i++) {
    const k = M.kind[i];
    if (!hidden[k] && (named[k] || has[M.what[i]] || (both[k] !== null && text(M.what[i]).toLowerCase().includes(both[k])))) hits.push({ type: "message", index: i });
  }
  for (let i = 0; i < K.count; i++) if (has[K.what[i]]) hits.push({ type: "mark", index: i });
  operations.forEach((o, i) => { if (has[o.what] || has[o.result] || `${o.doing} ${o.token}` === words) hits.push({ type: "operation", index: i }); });
  leases.forEach((l, i) => { if (`lease ${l.token} of n${l.node}`.includes(words)) hits.push({ type: "lease", index: i }); });
  faults.forEach((f, i) => { if ((f.kind + f.what).toLowerCase().includes(words)) hits.push({ type: "fault", index: i }); });
  breaches.forEach((b, i) => { if ((b.rule + b.what).toLowerCase().includes(words)) hits.push({ type: "breach", index: i }); });
  hits.sort((a, b) => placeOf(a).at - placeOf(b).at);
  byId("hits").value = hits.length ? `${hits.length}` : "none";
}
function step_(by) {
  if (!hits.length) return;
  hit = hit < 0 ? Math.max(0, hits.findIndex((thing) => placeOf(thing).at >= view.from)) : (hit + by + hits.length) % hits.length;
  byId("hits").value = `${hit + 1}/${hits.length}`;
  goTo(hits[hit]);
}

let lastFrame = 0;
function play(on) {
  view.playing = on;
  byId("play").textContent = on ? "❚❚" : "▶";
  if (on && view.cursor >= END) setCursor(0);
  lastFrame = 0;
  if (on) requestAnimationFrame(tick);
}
function tick(now) {
  if (!view.playing) return;
  if (lastFrame) {
    setCursor(view.cursor + (now - lastFrame) * 1000 * Number(byId("speed").value));
    const tall = (view.height - HEAD) * view.perPixel;
    if (view.cursor > view.from + tall * 0.72 || view.cursor < view.from) { view.from = view.cursor - tall * 0.72; keepWithin(); }
    if (view.cursor >= END) return play(false);
  }
  lastFrame = now;
  requestAnimationFrame(tick);
}

diagram.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) { view.left += event.deltaX || event.deltaY; layOut(); redraw(); }
  else zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) * 0.004), event.offsetY);
}, { passive: false });
let drag = null;
diagram.addEventListener("pointerdown", (event) => {
  drag = { x: event.clientX, y: event.clientY, from: view.from, left: view.left, moved: false };
  diagram.setPointerCapture(event.pointerId);
});
diagram.addEventListener("pointermove", (event) => {
  if (drag) {
    const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
    if (Math.hypot(dx, dy) > 4) { drag.moved = true; diagram.classList.add("drag"); }
    if (drag.moved) { view.from = drag.from - dy * view.perPixel; view.left = drag.left - dx; keepWithin(); layOut(); redraw(); }
    return;
  }
  hoverAt(event);
});
let hovering = false;
function hoverAt(event) {
  if (hovering) return;
  hovering = true;
  requestAnimationFrame(() => {
    hovering = false;
    const thing = pick(event.offsetX, event.offsetY);
    const tip = byId("tip");
    tip.hidden = !thing;
    if (thing) {
      const { title, rows: list } = describe(thing);
      const says = list.find(([name, value]) => ["says", "what", "fate"].includes(name) && value && value !== "arrived");
      tip.innerHTML = `<b>${escaped(title)}</b> <span>${clock(placeOf(thing).at)}</span>${says ? `<br>${escaped(String(says[1]).slice(0, 200))}` : ""}`;
      tip.style.left = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8) + "px";
      tip.style.top = Math.min(event.clientY + 14, innerHeight - tip.offsetHeight - 8) + "px";
    }
    if (JSON.stringify(thing) !== JSON.stringify(view.hover)) { view.hover = thing; redraw(); }
  });
}
diagram.addEventListener("pointerup", (event) => {
  const moved = drag?.moved;
  drag = null;
  diagram.classList.remove("drag");
  if (moved) return;
  if (event.offsetY < HEAD) {
    const node = view.nodes[Math.floor((event.offsetX - AXIS + view.left) / view.column)];
    if (node !== undefined && event.offsetX > AXIS) { view.focus = view.focus === node ? null : node; redraw(); }
    return;
  }
  setCursor(atOf(event.offsetY));
  choose(pick(event.offsetX, event.offsetY));
});
diagram.addEventListener("pointerleave", () => { byId("tip").hidden = true; view.hover = null; redraw(); });
function overviewAt(event) {
  const tall = (view.height - HEAD) * view.perPixel;
  const at = event.offsetY / overview.getBoundingClientRect().height * END;
  view.from = at - tall / 2;
  keepWithin();
  setCursor(at);
}
overview.addEventListener("pointerdown", (event) => { overview.setPointerCapture(event.pointerId); overviewAt(event); });
overview.addEventListener("pointermove", (event) => { if (event.buttons) overviewAt(event); });

byId("play").onclick = () => play(!view.playing);
byId("in").onclick = () => zoom(0.6);
byId("out").onclick = () => zoom(1 / 0.6);
byId("all").onclick = showWhole;
byId("failure").onclick = showFailure;
byId("next").onclick = () => step_(1);
byId("previous").onclick = () => step_(-1);
byId("search").oninput = search;
byId("search").onkeydown = (event) => { if (event.key === "Enter") step_(event.shiftKey ? -1 : 1); };
byId("scrub").oninput = (event) => {
  setCursor(event.target.value / 10000 * END);
  const tall = (view.height - HEAD) * view.perPixel;
  view.from = view.cursor - tall / 2;
  keepWithin();
};
byId("kinds").onchange = (event) => {
  const { name } = event.target.dataset;
  if (event.target.checked) view.hidden.delete(name); else view.hidden.add(name);
  search();
  redraw();
};
byId("nodes").onchange = (event) => {
  const { node } = event.target.dataset;
  if (node === "all") view.nodes = event.target.checked ? [...Array(raw.nodes).keys()] : [];
  else if (event.target.checked) view.nodes = [...view.nodes, Number(node)].sort((a, b) => a - b);
  else view.nodes = view.nodes.filter((other) => other !== Number(node));
  layOut();
  listNodes();
  redraw();
};
byId("detail").onclick = (event) => {
  const link = event.target.closest("a");
  if (!link) return;
  event.preventDefault();
  if ("clear" in link.dataset) choose(null);
  else goTo({ type: link.dataset.type, index: Number(link.dataset.index) });
};
document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(".menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (["INPUT", "SELECT"].includes(event.target.tagName) || event.ctrlKey || event.metaKey || event.altKey) return;
  const tall = (view.height - HEAD) * view.perPixel;
  const move = (part) => { view.from += tall * part; keepWithin(); redraw(); };
  const keys = {
    " ": () => play(!view.playing), "+": () => zoom(0.6), "=": () => zoom(0.6), "-": () => zoom(1 / 0.6), 0: showWhole, v: showFailure,
    f: () => byId("search").focus(), ArrowDown: () => move(0.1), ArrowUp: () => move(-0.1), PageDown: () => move(0.8), PageUp: () => move(-0.8),
    ArrowLeft: () => { view.left -= 60; layOut(); redraw(); }, ArrowRight: () => { view.left += 60; layOut(); redraw(); }, Escape: () => choose(null),
  };
  if (event.target.tagName === "BUTTON" && event.key === " ") return;
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); redraw(); });
new ResizeObserver(() => { resize(); draw(); }).observe(diagram);

byId("name").textContent = `Seed ${summary.seed}`;
byId("verdict").textContent = summary.verdict;
byId("verdict").className = breaches.length ? "bad" : "";
byId("facts").textContent = `${summary.fidelity}, ${raw.nodes} nodes, ${(END / 1e6).toFixed(1)} s, ${M.count} messages`;
byId("failure").hidden = !breaches.length;
view.hidden.add("upkeep");
// What travels in packets is shown, and says more than they do.
view.hidden.add("packets");
readColours();
resize();
listKinds();
listNodes();
overviewOfRun();
// A clean run begins where its first fault does: before that little is to be seen.
const opening = faults.length ? Math.max(0, faults[0].from - 20000) : 0;
const opens = Math.max(100000, readable(opening, 1) - opening);
showRange(opening - opens * 0.05, opening + opens);
setCursor(0);
if (breaches.length) showFailure();
draw();
document.documentElement.dataset.messages = M.count;
document.documentElement.dataset.operations = operations.length;
document.documentElement.dataset.leases = leases.length;
document.documentElement.dataset.ready = "yes";
