"use strict";
const $ = id => document.getElementById(id);
const {boxes} = JSON.parse($("data").textContent);
const walk = phase => boxes.map((drawn, box) => ({phase, box, math: drawn[phase]})).filter(step => step.math);
const steps = [...walk("forward"), ...walk("backward").reverse()];
const svg = document.querySelector("svg.graph");
const nodes = [...svg.querySelectorAll(".node")].sort((a, b) => a.dataset.box - b.dataset.box);
const touching = {forward: boxes.map(() => []), backward: boxes.map(() => [])};
for (const mark of svg.querySelectorAll(".edge, .slope")) {  // an edge's line and its label
  touching.forward[mark.dataset.parent].push(mark);
  touching.backward[mark.dataset.child].push(mark);
}
const turn = steps.findIndex(step => step.phase === "backward");
let at = 0;  // how many steps were taken

function mark({phase, box}, on) {
  nodes[box].classList.toggle(phase === "forward" ? "known" : "received", on);
  if (phase === "backward") for (const mark of touching.backward[box]) mark.classList.toggle("used", on);
}
function go(to) {
  to = Math.max(0, Math.min(steps.length, to));
  for (; at < to; at++) mark(steps[at], true);
  for (; at > to; at--) mark(steps[at - 1], false);
  for (const old of svg.querySelectorAll(".now")) old.classList.remove("now");
  $("forward").disabled = at >= turn;
  $("backward").disabled = at >= steps.length;
  $("undo").disabled = at === 0;
  if (at === 0) begin(); else arrive(steps[at - 1]);
}
const help = [...$("panel").children];
function begin() {
  $("panel").replaceChildren(...help);
  $("count").textContent = `start · 0 / ${steps.length}`;
  $("equation").textContent = "Forward computes the values, backward the gradients.";
}
function arrive({phase, box, math}) {
  $("count").textContent = `${phase} · ${at} / ${steps.length}`;
  $("equation").innerHTML = math;
  svg.classList.toggle("forward", phase === "forward");
  svg.classList.toggle("backward", phase === "backward");
  for (const mark of [nodes[box], ...touching[phase][box]]) mark.classList.add("now");
  describe(box);
  follow(nodes[box]);
}
const forward = () => { if (at < turn) go(at + 1); };
const backward = () => go(at < turn ? turn + 1 : at + 1);

function element(tag, text) {
  const made = document.createElement(tag);
  made.textContent = text ?? "";
  return made;
}
function heat(name, map) {
  const canvas = document.createElement("canvas"), cells = map.flat();
  canvas.setAttribute("role", "img");
  canvas.ariaLabel = `heat map of the ${name}`;
  canvas.width = map[0].length; canvas.height = map.length;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < cells.length; i++) {
    const x = cells[i] / 100, to = x < 0 ? [0, 114, 178] : [213, 94, 0];
    for (let c = 0; c < 3; c++) image.data[4 * i + c] = 255 + (to[c] - 255) * Math.abs(x);
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
function describe(i) {
  const {node, members, maps, uses, chain} = boxes[i], list = element("dl"), done = nodes[i].classList;
  const known = done.contains("known") || done.contains("leaf"), received = done.contains("received");
  const rows = {operation: node.expression, type: `${node.dtype} [${node.shape.join(", ")}]`};
  if (known) rows.value = node.value;
  if (known && node.shape.length) Object.assign(rows, node.statistics);
  if (received || node.adjoint.startsWith("none")) rows.adjoint = node.adjoint;
  if (node.source) rows.source = node.source;
  for (const [key, text] of Object.entries(rows)) list.append(element("dt", key), element("dd", text));
  $("panel").replaceChildren(element("h2", node.name), list);
  for (const [name, shown] of Object.entries({value: known, adjoint: received}))
    if (shown && maps[name]) $("panel").append(element("div", `${name} (blue −, orange +)`), heat(name, maps[name]));
  if (received && uses.length) {
    $("panel").append(element("div", "receives"));
    for (const use of uses)
      $("panel").append(element("div", `from ${use.parent}: ${use.contribution}  (${use.local})`));
  }
  if (received && chain) $("panel").append(Object.assign(element("div", chain), {className: "chain"}));
  for (const [, name, operation, value, adjoint] of members)
    if (known) $("panel").append(element("div", `${name} = ${operation} = ${value}` + (received ? `, ∂ ${adjoint}` : "")));
}
for (const node of nodes)
  for (const event of ["mouseenter", "focus", "click"])
    node.addEventListener(event, () => {
      describe(Number(node.dataset.box));
      if (node.matches(":focus-visible")) follow(node);  // with Tab: it may be out of sight
    });

const LEGIBLE = 1.45;  // units of the drawing a pixel; with more of them the text is too small
const {width, height} = svg.viewBox.baseVal;
let view = [0, 0, width, height];
function look(x, y, w, h) {
  view = [x, y, w, h];
  svg.setAttribute("viewBox", view.join(" "));
}
const scale = () => Math.max(view[2] / svg.clientWidth, view[3] / svg.clientHeight);
const fit = () => look(0, 0, width, height);
function home() {  // the whole where that is legible, else the left end of it
  fit();
  if (scale() <= LEGIBLE) return;
  const w = svg.clientWidth * LEGIBLE, h = svg.clientHeight * LEGIBLE;
  look(0, (height - h) / 2, w, h);
  follow(nodes[0]);
}
// The begin of a view around a middle; it shows as much of the drawing as it can.
const within = (middle, span, whole) =>
  span > whole ? (whole - span) / 2 : Math.max(0, Math.min(whole - span, middle - span / 2));
function follow(node) {
  const {x, y, width: w, height: h} = node.querySelector("rect").getBBox(), [left, top, across, down] = view;
  const right = Math.min(x + 2 * w, width);  // with what stands on its edges
  if (x - 8 < left || y - 8 < top || right > left + across || y + h + 8 > top + down)
    look(within(x + w / 2, across, width), within(y + h / 2, down, height), across, down);
}
function zoom(by, x, y) {
  const {x: u, y: v} = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM().inverse());
  look(u + (view[0] - u) * by, v + (view[1] - v) * by, view[2] * by, view[3] * by);
}
function zoomCenter(by) {
  const box = svg.getBoundingClientRect();
  zoom(by, box.x + box.width / 2, box.y + box.height / 2);
}
const pointers = new Map();
$("canvas").addEventListener("wheel", event => {
  event.preventDefault();
  zoom(Math.exp(event.deltaY / 500), event.clientX, event.clientY);
}, {passive: false});
$("canvas").addEventListener("pointerdown", event => pointers.set(event.pointerId, event));
$("canvas").addEventListener("pointermove", event => {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  if (pointers.size === 1) {
    const units = scale();
    look(view[0] - (event.clientX - last.clientX) * units, view[1] - (event.clientY - last.clientY) * units,
      view[2], view[3]);
  } else {
    const other = [...pointers.values()].find(p => p.pointerId !== event.pointerId);
    const span = p => Math.hypot(p.clientX - other.clientX, p.clientY - other.clientY) + 1;
    zoom(span(last) / span(event), other.clientX, other.clientY);
  }
  pointers.set(event.pointerId, event);
});
for (const name of ["pointerup", "pointercancel", "pointerleave"])
  $("canvas").addEventListener(name, event => pointers.delete(event.pointerId));

function theme(name) { document.documentElement.dataset.theme = name; }
const toggle = () => theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
if (matchMedia("(prefers-color-scheme: dark)").matches) theme("dark");
const actions = {forward, backward, undo: () => go(at - 1), reset: () => { go(0); home(); }, fit, theme: toggle};
for (const [id, action] of Object.entries(actions)) $(id).addEventListener("click", action);
const keys = {ArrowRight: () => go(at + 1), ArrowLeft: () => go(at - 1), Home: actions.reset,
  End: () => go(steps.length), b: backward, f: fit, t: toggle,
  "+": () => zoomCenter(.8), "-": () => zoomCenter(1.25)};
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
});
go(0);
home();
