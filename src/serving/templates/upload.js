// A picture goes to /predict; its boxes are laid over it, above the score of the slider.
"use strict";

(() => {
  const at = (id) => document.getElementById(id);
  const settings = JSON.parse(at("settings").textContent);
  const [drop, file, status, stage, picture] = ["drop", "file", "status", "stage", "picture"].map(at);
  const [boxes, rows, score, scoreValue] = ["boxes", "rows", "score", "score-value"].map(at);
  let answer = null;
  let number = 0; // of the request: answers to earlier ones come too late

  for (const place of document.querySelectorAll(".address")) place.textContent = location.origin;

  const say = (text, isBad = false) => {
    status.textContent = text;
    status.classList.toggle("bad", isBad);
  };
  const element = (kind, text = "", className = "") => {
    const made = document.createElement(kind);
    made.textContent = text;
    made.className = className;
    return made;
  };
  const share = (value, whole) => `${(100 * value) / whole}%`;

  const boxOf = (found, color) => {
    const [x1, y1, x2, y2] = found.box;
    const box = element("div");
    box.style.setProperty("--box", color);
    box.style.left = share(x1, answer.width);
    box.style.top = share(y1, answer.height);
    box.style.width = share(x2 - x1, answer.width);
    box.style.height = share(y2 - y1, answer.height);
    box.classList.toggle("high", y1 < 0.05 * answer.height);
    box.append(element("span", `${found.class} ${found.score.toFixed(2)}`));
    return box;
  };
  const rowOf = (found, color, box) => {
    const [x1, y1, x2, y2] = found.box;
    const row = element("tr");
    const name = element("td");
    const swatch = element("span", "", "swatch");
    swatch.style.setProperty("--box", color);
    name.append(swatch, found.class);
    row.append(name, element("td", found.score.toFixed(3), "number"));
    for (const value of [x1, y1, x2 - x1, y2 - y1]) {
      row.append(element("td", value.toFixed(0), "number"));
    }
    row.addEventListener("mouseenter", () => box.classList.add("marked"));
    row.addEventListener("mouseleave", () => box.classList.remove("marked"));
    return row;
  };
  const show = () => {
    scoreValue.textContent = Number(score.value).toFixed(2);
    if (!answer) return;
    const seen = answer.detections.filter((found) => found.score >= Number(score.value));
    const made = seen.map((found) => boxOf(found, settings.colors[found.class]));
    // The surest box last: on top.
    boxes.replaceChildren(...[...made].reverse());
    rows.replaceChildren(
      ...seen.map((found, i) => rowOf(found, settings.colors[found.class], made[i])));
    for (const id of ["controls", "results"]) at(id).hidden = false;
    const all = answer.detections.length;
    say(`${seen.length} of ${all} detections, ${answer.width} x ${answer.height} pixels, ` +
        `${answer.seconds.toFixed(2)} s`);
  };
  const clear = () => {
    answer = null;
    boxes.replaceChildren();
    rows.replaceChildren();
    stage.style.aspectRatio = "";
    stage.classList.remove("blank");
    for (const id of ["controls", "results"]) at(id).hidden = true;
  };

  const send = async (chosen) => {
    const mine = ++number;
    clear();
    if (chosen.size > settings.max_bytes) {
      stage.hidden = true;
      say(`This file has ${chosen.size} bytes; the server takes ${settings.max_bytes}.`, true);
      return;
    }
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(chosen);
    stage.hidden = false;
    say("Looking ...");
    const form = new FormData();
    form.append("file", chosen);
    form.append("min_score", "0");
    try {
      const response = await fetch("predict", { method: "POST", body: form });
      const content = await response.json();
      if (mine !== number) return;
      if (!response.ok) throw new Error(content.detail);
      answer = content;
      stage.style.aspectRatio = `${answer.width} / ${answer.height}`;
      show();
    } catch (error) {
      if (mine === number) say(String(error.message || error), true);
    }
  };

  picture.addEventListener("error", () => stage.classList.add("blank")); // a kind no browser shows
  file.addEventListener("change", () => file.files[0] && send(file.files[0]));
  score.addEventListener("input", show);
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    document.addEventListener(kind, () => drop.classList.remove("over"));
  }
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    if (event.dataTransfer.files[0]) send(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files[0]) send(event.clipboardData.files[0]);
  });
  show();
})();
