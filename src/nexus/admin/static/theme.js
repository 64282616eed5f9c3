// Runs before the first paint, so that a chosen theme never flashes in the other one.
"use strict";
(function () {
  let chosen = null;
  try {
    chosen = localStorage.getItem("nexus-theme");
  } catch {
    // Storage is closed to us: follow the system.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
