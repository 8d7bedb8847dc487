"""How a page looks and what connects its parts: CSS and a script without any text of a user.

The script has no "<" and no "&", so that the page is XML, too, and can be checked as that.
"""

from __future__ import annotations

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; margin: 0 20px 20px; color: #222; background: #fff; }
h1 { font-size: 20px; overflow-wrap: anywhere; } h2 { font-size: 16px; margin: 26px 0 6px; }
p { margin: 3px 0; overflow-wrap: anywhere; } svg { display: block; }
.columns { display: grid; grid-template-columns: minmax(0, 3fr) minmax(0, 2fr); gap: 24px; }
.wide { overflow: auto; max-height: 80vh; margin: 6px 0; }
.source { position: sticky; top: 0; align-self: start; }
pre { position: relative; overflow: auto; max-height: 43vh; margin: 4px 0; padding: 8px;
  background: #f6f8fa; border: 1px solid #d0d7de; border-radius: 4px; font-size: 11px; }
pre span { display: block; min-height: 1.3em; }
table.steps { border-collapse: collapse; font-size: 12px; }
table.steps th, table.steps td { text-align: left; vertical-align: top; padding: 2px 12px 2px 4px;
  max-width: 26em; overflow-wrap: anywhere; }
table.steps .number { text-align: right; white-space: nowrap; }
table.steps th, table.steps td:nth-child(2) { white-space: nowrap; }
[data-steps] { cursor: pointer; }
tr.lit, pre .lit { background: #ffe9a8; }
svg .lit path { stroke: #d62828; stroke-width: 3; }
svg .lit circle, svg .lit rect, svg .lit polygon { stroke: #d62828; stroke-width: 2.5; }
@media (max-width: 1100px) { .columns { display: block; } .source { position: static; } }
"""

SCRIPT = """
(function () {
  var lit = [], pinned = null;
  function clear() {
    lit.forEach(function (part) { part.classList.remove("lit"); });
    lit = [];
  }
  function show(node) {
    clear();
    node.getAttribute("data-steps").split(" ").forEach(function (step) {
      document.querySelectorAll('[data-steps~="' + step + '"]').forEach(function (part) {
        part.classList.add("lit");
        lit.push(part);
      });
    });
    if (node.closest("pre")) { return; }
    document.querySelectorAll("pre").forEach(function (box) {
      var line = box.querySelector(".lit");
      if (line) { box.scrollTop = line.offsetTop - 30; }
    });
  }
  function step(event) {
    return event.target.closest ? event.target.closest("[data-steps]") : null;
  }
  function hover(event) {
    if (pinned) { return; }
    var node = step(event);
    if (node) { show(node); } else { clear(); }
  }
  document.addEventListener("mouseover", hover);
  document.addEventListener("focusin", hover);
  document.addEventListener("click", function (event) {
    var node = step(event);
    pinned = node === pinned ? null : node;
    if (node) { show(node); } else { clear(); }
  });
})();
"""
