// The switch between light and dark; what was chosen is remembered. Runs before the page is drawn.
"use strict";

(() => {
  const root = document.documentElement;
  const key = "faster-rcnn-theme";
  let theme = null;
  try { theme = localStorage.getItem(key); } catch { /* a page without a store */ }
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#theme")) return;
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem(key, root.dataset.theme); } catch { /* as above */ }
  });
})();
