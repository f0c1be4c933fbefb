// The values of a chart's curves where the pointer is (or the arrow keys lead).
// Each .plot is followed by a script element with: frame (left, top, right, bottom) and width in
// units of its SVG; label and x of its axis; at: where each x lies; curves: name, color, y.
"use strict";

for (const plot of document.querySelectorAll(".plot")) {
  const chart = JSON.parse(plot.parentElement.querySelector("script").textContent);
  const [left, top, right, bottom] = chart.frame;
  const line = document.createElement("div");
  const box = document.createElement("div");
  line.className = "pointer-line";
  box.className = "pointer-box";
  box.setAttribute("role", "status");
  for (const element of [line, box]) { element.hidden = true; plot.append(element); }
  let shown = -1;

  const row = (color, name, value) => {
    const entry = document.createElement("div");
    const key = document.createElement("span");
    key.style.color = color;
    key.textContent = name;
    const number = document.createElement("b");
    number.textContent = value;
    entry.append(key, number);
    return entry;
  };
  const show = (index) => {
    shown = index;
    const scale = plot.clientWidth / chart.width;
    const rows = chart.curves.filter((curve) => curve.y[index] !== "")
      .map((curve) => row(curve.color, curve.name, curve.y[index]));
    box.replaceChildren(row("inherit", chart.label, chart.x[index]), ...rows);
    line.hidden = box.hidden = false;
    line.style.cssText = `left:${chart.at[index] * scale}px;top:${top * scale}px;` +
      `height:${(bottom - top) * scale}px`;
    const place = chart.at[index] * scale;
    const width = box.offsetWidth;
    const wanted = place + 12 + width < plot.clientWidth ? place + 12 : place - 12 - width;
    box.style.left = `${Math.max(0, wanted)}px`;
  };
  const hide = () => { shown = -1; line.hidden = box.hidden = true; };
  const nearest = (place) => chart.at.reduce(
    (best, at, index) => Math.abs(at - place) < Math.abs(chart.at[best] - place) ? index : best, 0);
  const follow = (event) => {
    const place = (event.clientX - plot.getBoundingClientRect().left) * chart.width / plot.clientWidth;
    if (place < left - 8 || place > right + 8) hide(); else show(nearest(place));
  };
  plot.addEventListener("pointermove", follow);
  plot.addEventListener("pointerdown", follow);
  plot.addEventListener("pointerleave", hide);
  plot.addEventListener("blur", hide);
  plot.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    show(Math.min(Math.max(shown + step, 0), chart.at.length - 1));
  });
}
