"use strict";
// Before anything is drawn: the theme that was chosen here last.
try {
  const theme = localStorage.getItem("nemorun-theme");
  if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
} catch { /* no storage: the system's theme */ }
