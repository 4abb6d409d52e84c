// Language switch, filter of the index, exact values and zoom on figures. Works from a file, asks nothing of anyone.
"use strict";
const html = document.documentElement;
const wanted = new URLSearchParams(location.search).get("lang");

function remember(value) { try { if (value) localStorage.setItem("fathom-book", value); return localStorage.getItem("fathom-book"); } catch { return null; } }
function speak(language) {
  html.dataset.lang = language;
  html.lang = language;
  for (const option of document.querySelectorAll("option[data-en]")) option.textContent = option.dataset[language];
}
const button = document.getElementById("language");
button.hidden = false;
button.addEventListener("click", () => { const next = html.dataset.lang === "en" ? "zh" : "en"; remember(next); speak(next); });
speak(["en", "zh"].includes(wanted) ? wanted : remember() || (navigator.language.startsWith("zh") ? "zh" : "en"));

const form = document.querySelector(".filter");
if (form) {
  form.hidden = false;
  const words = document.getElementById("words"), verdict = document.getElementById("verdict"), shown = document.getElementById("shown");
  const filter = () => {
    const terms = words.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const item of document.querySelectorAll(".questions li")) {
      const fits = terms.every((term) => item.dataset.words.includes(term)) && (!verdict.value || item.dataset.verdicts.split(" ").includes(verdict.value));
      item.hidden = !fits;
      item.style.display = fits ? "" : "none";
      count += fits;
    }
    for (const part of document.querySelectorAll(".part")) part.hidden = ![...part.querySelectorAll("li")].some((item) => !item.hidden);
    shown.textContent = terms.length || verdict.value ? String(count) : "";
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
}

// Figures: data-axes holds the axes' box in the SVG's points, their limits and scales.
function place(axes, x, y) {
  const [left, top, right, bottom] = axes.box;
  const at = (value, [low, high], log) => log ? (Math.log10(value) - Math.log10(low)) / (Math.log10(high) - Math.log10(low)) : (value - low) / (high - low);
  return [left + at(x, axes.x, axes.log[0]) * (right - left), bottom - at(y, axes.y, axes.log[1]) * (bottom - top)];
}
function short(value) { return Math.abs(value) >= 1e5 || (value !== 0 && Math.abs(value) < 1e-3) ? value.toExponential(3) : String(Number(value.toPrecision(5))); }

function cells(heat) {
  const middle = ([low, high], i, n) => Number((low + ((i + 0.5) / n) * (high - low)).toPrecision(6));
  return heat.values.flatMap((row, i) => row.map((value, j) => [middle(heat.x, j, row.length), middle(heat.y, i, heat.values.length), value])).filter((cell) => cell[2] !== null);
}

function interactive(plot) {
  const svg = plot.querySelector("svg");
  const told = plot.closest("figure").parentElement.querySelector(`script[data-for="${plot.dataset.figure}"]`);
  if (!svg || !told) return;
  const figure = JSON.parse(told.textContent), axes = JSON.parse(svg.dataset.axes);
  // A point: where it lies, what it says, from how far it is seen, how much height counts (little for bars).
  const language = plot.lang, points = [], tick = (axis, i) => figure[axis].ticks[i] ? figure[axis].ticks[i][language] : short(i);
  const bars = figure.marks.filter((mark) => mark.mark === "bars");
  for (const mark of figure.marks) {
    if (mark.mark === "line") mark.x.forEach((x, i) => { if (x !== null && mark.y[i] !== null) points.push([...place(axes, x, mark.y[i]), `${mark.name[language]}: (${tick("x", x)}, ${short(mark.y[i])})`]); });
    if (mark.mark === "bars") {
      const aside = (0.8 / bars.length) * (bars.indexOf(mark) - (bars.length - 1) / 2);
      mark.y.forEach((y, i) => { if (y !== null) points.push([...place(axes, i + aside, y), `${mark.name[language]} · ${tick("x", i)}: ${short(y)}`, 40, 0.02]); });
    }
    if (mark.mark === "heat") cells(mark).forEach(([x, y, value]) => points.push([...place(axes, x, y), `(${tick("x", x)}, ${tick("y", y)}): ${short(value)}`, Infinity]));
  }
  if (!points.length) return;
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  let view = [0, 0, width, height];
  const tip = document.createElement("div");
  tip.className = "tip"; tip.hidden = true; plot.append(tip);
  const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  dot.setAttribute("class", "dot"); dot.setAttribute("r", "5"); dot.setAttribute("fill", "none"); dot.setAttribute("stroke", "currentColor"); dot.setAttribute("stroke-width", "2"); dot.setAttribute("visibility", "hidden");
  svg.append(dot);
  const show = (point) => {
    if (!point) { tip.hidden = true; dot.setAttribute("visibility", "hidden"); return; }
    const box = svg.getBoundingClientRect();
    dot.setAttribute("cx", point[0]); dot.setAttribute("cy", point[1]); dot.setAttribute("visibility", "visible");
    tip.textContent = point[2]; tip.hidden = false;
    const left = ((point[0] - view[0]) / view[2]) * box.width, top = ((point[1] - view[1]) / view[3]) * box.height;
    tip.style.left = `${Math.max(0, Math.min(left + 10, box.width - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, top - 34)}px`;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = view[0] + ((event.clientX - box.left) / box.width) * view[2], y = view[1] + ((event.clientY - box.top) / box.height) * view[3];
    let best = null, distance = Infinity;
    for (const point of points) { const d = Math.hypot(point[0] - x, (point[1] - y) * (point[4] ?? 1)); if (d < distance && d < (point[3] ?? 40)) { distance = d; best = point; } }
    const [left, top, right, bottom] = axes.box;
    show(x > left - 40 && x < right + 40 && y > top - 40 && y < bottom + 40 ? best : null);
  });
  svg.addEventListener("pointerleave", () => show(null));
  const zoom = (factor) => {
    const size = [Math.min(width, view[2] * factor), Math.min(height, view[3] * factor)];
    const centre = [view[0] + view[2] / 2, view[1] + view[3] / 2];
    move(centre[0] - size[0] / 2, centre[1] - size[1] / 2, ...size);
  };
  const move = (x, y, w, h) => {
    view = [Math.max(0, Math.min(x, width - w)), Math.max(0, Math.min(y, height - h)), w, h];
    svg.setAttribute("viewBox", view.join(" "));
    show(null);
  };
  const tools = document.createElement("div");
  tools.className = "tools";
  const names = { en: ["Zoom in", "Zoom out", "Whole figure"], zh: ["放大", "缩小", "全图"] }[language];
  [["+", () => zoom(0.7)], ["−", () => zoom(1 / 0.7)], ["⤢", () => move(0, 0, width, height)]].forEach(([sign, act], i) => {
    const tool = document.createElement("button");
    tool.type = "button"; tool.textContent = sign; tool.setAttribute("aria-label", names[i]); tool.addEventListener("click", act);
    tools.append(tool);
  });
  plot.after(tools);
  tools.lang = language; tools.classList.add(plot.classList.contains("narrow") ? "narrow" : "roomy");
  let held = null;
  svg.addEventListener("pointerdown", (event) => { if (view[2] < width) held = [event.clientX, event.clientY, ...view]; });
  addEventListener("pointerup", () => { held = null; });
  svg.addEventListener("pointermove", (event) => {
    if (!held) return;
    const box = svg.getBoundingClientRect();
    move(held[2] - ((event.clientX - held[0]) / box.width) * view[2], held[3] - ((event.clientY - held[1]) / box.height) * view[3], view[2], view[3]);
  });
  let at = -1;
  plot.tabIndex = 0;
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { at = (at + step + points.length) % points.length; show(points[at]); plot.setAttribute("aria-description", points[at][2]); event.preventDefault(); }
    if (event.key === "+") zoom(0.7);
    if (event.key === "-") zoom(1 / 0.7);
    if (event.key === "Escape") { move(0, 0, width, height); at = -1; }
  });
}
document.querySelectorAll(".plot").forEach(interactive);
