// What was recorded: read from the page's own data, indexed, and put into words.

const raw = JSON.parse(document.getElementById("data").textContent);
const sum = (column) => { let total = 0; return Float64Array.from(column, (step) => (total += step)); };
const NONE = -1;

// Times are in microseconds. `at` comes as steps, all else as it is.
const M = { count: raw.messages.at.length, at: sum(raw.messages.at) };
for (const name of ["from", "to", "took", "kind", "fate", "bytes", "link", "what"]) {
  M[name] = Int32Array.from(raw.messages[name]);
}
const K = { count: raw.marks.at.length, at: sum(raw.marks.at) };
for (const name of ["node", "about", "what"]) K[name] = Int32Array.from(raw.marks[name]);
const rows = (columns, list) => list.map((row) => Object.fromEntries(columns.map((name, i) => [name, row[i]])));
const lives = rows(["node", "life", "from", "until", "end"], raw.lives);
const pauses = rows(["node", "from", "until"], raw.pauses);
const links = rows(["node", "peer", "link", "from", "until"], raw.links);
const leases = rows(["node", "life", "token", "from", "until"], raw.leases);
const operations = rows(["doing", "token", "node", "from", "until", "ending", "what", "result", "seen"], raw.operations);
const { faults, breaches, kinds, groups, strings, summary } = raw;
const FATES = ["arrived", "lost", "nobody was there", "waited for the end of a pause", "arrived damaged"];
const [LOST, UNHEARD] = [1, 2];
const END = Math.max(raw.end, 1);
const untilEnd = (until) => (until === NONE ? END : until);
const text = (index) => strings[index];

// The longest that a message was under way: how far back one may begin that is still to be seen.
const tookMax = M.took.reduce((most, took) => Math.max(most, took), 0);

/** The first place in a sorted column whose value is at least this. */
function lowerBound(column, value) {
  let [low, high] = [0, column.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (column[middle] < value) low = middle + 1; else high = middle;
  }
  return low;
}

/** Gives spans that overlap in time places beside each other. */
function pack(list, key, placesMax) {
  const ends = new Map();
  for (const span of list) {
    const taken = ends.get(key(span)) ?? ends.set(key(span), []).get(key(span));
    let place = taken.findIndex((end) => end <= span.from);
    if (place < 0) place = taken.length < placesMax ? taken.length : placesMax - 1;
    taken[place] = Math.max(taken[place] ?? 0, untilEnd(span.until) + 2000);
    span.place = place;
  }
}
pack(operations, (operation) => operation.node, 6);
pack(links, (link) => link.node, 16);

const linksOf = Array.from({ length: raw.nodes }, () => []);
links.forEach((link) => linksOf[link.node].push(link));
const livesOf = Array.from({ length: raw.nodes }, () => []);
lives.forEach((life) => livesOf[life.node].push(life));

const FAMILY = {};
for (const kind of ["crash", "stop", "pause", "lose-disk", "readdress", "dials"]) FAMILY[kind] = "node";
for (const kind of ["clock", "lapse", "revoke", "impostor", "replay"]) FAMILY[kind] = "rights";
const familyOf = (fault) => FAMILY[fault.kind] ?? "network";

/** A time, in the words of the log. */
function clock(us) {
  return (us / 1e6).toFixed(6) + " s";
}
function span(us) {
  if (us < 1000) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 1e4 ? 2 : 1)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}
const escaped = (words) => String(words).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

/** When a thing is, and at which nodes. */
function placeOf(thing) {
  const i = thing.index;
  switch (thing.type) {
    case "message": return { at: M.at[i], until: M.at[i] + M.took[i], nodes: [M.from[i], M.to[i]] };
    case "mark": return { at: K.at[i], until: K.at[i], nodes: [K.node[i]] };
    case "operation": return { at: operations[i].from, until: untilEnd(operations[i].until), nodes: [operations[i].node] };
    case "link": return { at: links[i].from, until: untilEnd(links[i].until), nodes: [links[i].node, links[i].peer] };
    case "lease": return { at: leases[i].from, until: untilEnd(leases[i].until), nodes: [leases[i].node] };
    case "fault": return { at: faults[i].from, until: untilEnd(faults[i].until), nodes: faults[i].nodes };
    case "life": return { at: lives[i].from, until: untilEnd(lives[i].until), nodes: [lives[i].node] };
    default: return { at: breaches[i].at, until: breaches[i].at, nodes: breaches[i].node === NONE ? [] : [breaches[i].node] };
  }
}

const ABOUT = { life: "life", peer: "peer", service: "service", call: "call", event: "event", rights: "rights", note: "says" };

/** What a thing is called, and its details. */
function describe(thing) {
  const i = thing.index;
  const at = placeOf(thing);
  const lasted = (until) => (until === NONE ? "to the end" : `${clock(until)} (${span(until - at.at)})`);
  switch (thing.type) {
    case "message": {
      const lost = M.fate[i] === LOST;
      return { title: `${kinds[M.kind[i]].name} n${M.from[i]} → n${M.to[i]}`, rows: [
        ["sent", clock(M.at[i])],
        ["arrives", lost ? "never" : `${clock(M.at[i] + M.took[i])} (${span(M.took[i])})`],
        ["fate", FATES[M.fate[i]]], ["says", text(M.what[i])], ["size", `${M.bytes[i]} bytes`],
        ["link", M.link[i] === NONE ? "" : M.link[i]]] };
    }
    case "mark": return { title: `n${K.node[i]}: ${ABOUT[raw.abouts[K.about[i]]]}`, rows: [["at", clock(K.at[i])], ["what", text(K.what[i])]] };
    case "operation": {
      const o = operations[i];
      const seen = o.seen.map(([node, when]) => `n${node} at ${clock(when)}`).join(", ");
      return { title: `${o.doing} ${o.token} of n${o.node}`, rows: [
        ["what", text(o.what)], ["begins", clock(o.from)], ["ends", lasted(o.until)], ["ending", o.ending], ["result", text(o.result)],
        [o.doing === "call" ? "ran" : "found", seen || "nowhere"]] };
    }
    case "link": {
      const l = links[i];
      return { title: `link of n${l.node} to n${l.peer}`, rows: [["up", clock(l.from)], ["down", lasted(l.until)], ["number", l.link]] };
    }
    case "lease": {
      const l = leases[i];
      const before = leases.findLastIndex((other, j) => j < i && other.from <= l.from);
      const gap = before < 0 ? "" : leases[before].until === NONE ? "none" : span(Math.max(0, l.from - leases[before].until));
      return { title: `lease of n${l.node}`, rows: [["token", l.token], ["life", l.life], ["from", clock(l.from)], ["until", lasted(l.until)],
        ["before it", before < 0 ? "nobody" : `n${leases[before].node} by ${leases[before].token}`], ["nobody for", gap]] };
    }
    case "fault": {
      const f = faults[i];
      return { title: `fault: ${f.kind}`, rows: [["from", clock(f.from)], ["until", lasted(f.until)],
        ["nodes", f.nodes.length ? f.nodes.map((n) => `n${n}`).join(", ") : "all"], ["what", f.what], ["place", `faults[${f.index}]`]] };
    }
    case "life": {
      const l = lives[i];
      return { title: `life ${l.life} of n${l.node}`, rows: [["from", clock(l.from)], ["until", lasted(l.until)], ["end", l.end]] };
    }
    default: {
      const b = breaches[i];
      return { title: b.rule, rows: [["at", clock(b.at)], ["node", b.node === NONE ? "none" : `n${b.node}`], ["what", b.what]] };
    }
  }
}
