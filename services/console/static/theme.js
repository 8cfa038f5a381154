// Before the first paint, so that nobody is dazzled: a theme that was chosen, else what the system says.
(function () {
  'use strict';
  let chosen = null;
  try { chosen = localStorage.getItem('weir-theme'); } catch { /* storage may be off */ }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
