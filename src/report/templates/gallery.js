// The gallery: which boxes and pictures its controls leave, and how many boxes there are of a kind.
"use strict";

(() => {
  const controls = document.getElementById("controls");
  if (!controls) return;
  // Scores have six decimals, the first threshold has all of its own.
  const ROUNDING = 1e-6;
  const PAGE = 12;  // pictures that are shown at a time
  const shots = [...document.querySelectorAll(".shot")].map((element) => ({
    element,
    counts: element.querySelector(".counts"),
    boxes: [...element.querySelectorAll("rect")].map((rect) => ({
      rect,
      kind: rect.classList[0],
      label: rect.dataset.label,
      score: Number(rect.dataset.score),
    })),
  }));
  const slider = controls.elements.threshold;
  const output = document.getElementById("shown-threshold");
  const none = document.getElementById("none");
  const more = document.getElementById("more");
  let most = PAGE;
  const totals = [...controls.querySelectorAll("[data-count]")];

  // What a box counts as at a threshold; nothing for a detection below it.
  const kindOf = (box, threshold) => {
    if (box.kind === "crowd") return "truth";
    const reached = box.score + ROUNDING >= threshold;
    if (box.kind === "truth") return reached ? "truth" : "missed";
    return reached ? box.kind : "";
  };
  const update = () => {
    const threshold = Number(slider.value);
    const label = controls.elements.label.value;
    const group = controls.elements.group.value;
    const checked = [...controls.querySelectorAll("[name=kind]")];
    const kinds = new Set(checked.filter((box) => box.checked).map((box) => box.value));
    const filtered = label !== "" || kinds.size < checked.length;
    const sums = {};
    let left = 0;
    for (const shot of shots) {
      const counts = { correct: 0, wrong: 0, missed: 0 };
      let seen = 0;
      const wanted = group === "" || shot.element.dataset.group === group;
      for (const box of shot.boxes) {
        const kind = kindOf(box, threshold);
        const isOfClass = label === "" || box.label === label;
        const isShown = kind !== "" && isOfClass && kinds.has(kind);
        box.rect.classList.toggle("off", !isShown);
        if (box.kind === "truth") box.rect.classList.toggle("missed", kind === "missed");
        if (isShown) seen += 1;
        if (kind === "" || !isOfClass || !wanted) continue;
        sums[kind] = (sums[kind] ?? 0) + 1;
        if (kind === "correct" || kind === "missed") counts[kind] += 1;
        else if (kind !== "truth" && kind !== "ignored") counts.wrong += 1;
      }
      shot.counts.textContent =
        `${counts.correct} correct, ${counts.wrong} false, ${counts.missed} missed`;
      const isLeft = wanted && (!filtered || seen > 0);
      if (isLeft) left += 1;
      shot.element.hidden = !isLeft || left > most;
    }
    output.textContent = threshold.toFixed(2);
    for (const total of totals) total.textContent = sums[total.dataset.count] ?? 0;
    none.hidden = left > 0;
    more.hidden = left <= most;
    more.textContent = `Show more of ${left} pictures`;
  };

  slider.value = controls.dataset.threshold;
  controls.addEventListener("input", update);
  more.addEventListener("click", () => { most += PAGE; update(); });
  controls.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
