(function () {
  "use strict";

  // Small multiples get as many columns as fit and fill the row; every other chart follows its container by itself.
  function fitted(spec, box) {
    if (!spec.facet || !spec.spec) return spec;
    const gap = spec.spacing || 18, room = box.clientWidth - 12;
    const columns = Math.max(1, Math.min(spec.columns || 4, Math.floor((room + gap) / (spec.spec.width + gap))));
    const width = Math.min(2 * spec.spec.width, Math.floor((room + gap) / columns - gap));
    return Object.assign({}, spec, { columns: columns, spec: Object.assign({}, spec.spec, { width: width }) });
  }

  // On a phone a legend of three names takes two rows.
  function config(box) {
    return box.clientWidth < 430 ? { legend: { columns: 2 } } : {};
  }

  function draw(box, spec) {
    const tooltip = { disableDefaultStyle: true };
    const fixed = { mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false };
    const options = Object.assign({ config: config(box), tooltip: tooltip }, fixed);
    window.vegaEmbed(box, fitted(spec, box), options).catch(function (error) {
      box.textContent = "This chart could not be drawn: " + error.message;
    });
  }

  function drawAll() {
    document.querySelectorAll(".plot").forEach(function (box) {
      const spec = JSON.parse(box.parentElement.querySelector(".spec").textContent);
      const fold = box.closest("details:not([open])");
      if (fold) fold.addEventListener("toggle", function () { draw(box, spec); }, { once: true });
      else draw(box, spec);
      if (spec.facet) redrawOnResize(box, spec);
    });
  }

  function redrawOnResize(box, spec) {
    let width = box.clientWidth;
    window.addEventListener("resize", function () {
      if (box.clientWidth === width) return;
      width = box.clientWidth;
      draw(box, spec);
    });
  }

  function copied(button, worked) {
    button.textContent = worked ? "Copied" : "Select and copy by hand";
    window.setTimeout(function () { button.textContent = "Copy"; }, 1600);
  }

  function copy(button) {
    const code = button.closest("figure").querySelector("code");
    if (navigator.clipboard) {
      navigator.clipboard.writeText(code.textContent).then(
        function () { copied(button, true); },
        function () { copied(button, copyBySelection(code)); });
    } else copied(button, copyBySelection(code));
  }

  function copyBySelection(code) {
    const selection = window.getSelection();
    selection.selectAllChildren(code);
    try { return document.execCommand("copy"); } catch (error) { return false; }
  }

  document.querySelectorAll(".copy").forEach(function (button) {
    button.addEventListener("click", function () { copy(button); });
  });
  drawAll();
})();
