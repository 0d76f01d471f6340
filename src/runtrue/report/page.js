(function () {
  "use strict";

  // Small multiples get as many columns as fit and fill the row; every other chart follows its container by itself.
  // `usermeta.axis`: pixels that the axis of each of them takes beside it.
  function fitted(spec, box, less) {
    if (!spec.facet || !spec.spec) return spec;
    const gap = spec.spacing || 18, room = box.clientWidth - 12 - less;
    const axis = (spec.usermeta && spec.usermeta.axis) || 0;
    const least = spec.spec.width + axis + gap;
    const columns = Math.max(1, Math.min(spec.columns || 4, Math.floor((room + gap) / least)));
    const width = Math.min(2 * spec.spec.width, Math.floor((room + gap) / columns - gap - axis));
    return Object.assign({}, spec, { columns: columns, spec: Object.assign({}, spec.spec, { width: width }) });
  }

  // On a phone a legend of three names takes two rows, and names of layers leave room for the figure.
  function config(box) {
    return box.clientWidth < 430 ? { legend: { columns: 2 }, axisY: { labelLimit: 100 } } : {};
  }

  // less: pixels by which small multiples were too wide at the first try: how wide their labels are depends on the numbers.
  function draw(box, spec, less) {
    const tooltip = { disableDefaultStyle: true };
    const fixed = { mode: "vega-lite", ast: true, renderer: "svg", actions: false, defaultStyle: false };
    const options = Object.assign({ config: config(box), tooltip: tooltip }, fixed);
    if (box.made) { box.style.minHeight = box.offsetHeight + "px"; box.made.finalize(); }
    return window.vegaEmbed(box, fitted(spec, box, less || 0), options).then(function (made) {
      box.made = made;
      box.style.minHeight = "";
      const over = box.scrollWidth - box.clientWidth;
      return over > 0 && spec.facet && !less ? draw(box, spec, over + 2) : null;
    }).catch(function (error) {
      box.textContent = "This chart could not be drawn: " + error.message;
    });
  }

  function specOf(box) {
    return JSON.parse(box.parentElement.querySelector(".spec").textContent);
  }

  // One after the other, with a breath between: the page can be read and scrolled meanwhile.
  let queue = Promise.resolve();
  function soon(box) {
    queue = queue.then(function () {
      return new Promise(function (go) { window.setTimeout(go); });
    }).then(function () {
      const text = box.parentElement.querySelector(".spec").textContent;
      return draw(box, JSON.parse(text)).then(function () {
        if (box.isConnected && box.parentElement.querySelector(".spec").textContent !== text) soon(box);
      });
    });
  }

  function drawAll() {
    document.querySelectorAll(".plot:not([data-known])").forEach(function (box) {
      box.dataset.known = "yes";
      const fold = box.closest("details:not([open])");
      if (fold) fold.addEventListener("toggle", function () { soon(box); }, { once: true });
      else soon(box);
      if (specOf(box).facet) redrawOnResize(box);
    });
  }

  function redrawOnResize(box) {
    let width = box.clientWidth;
    window.addEventListener("resize", function () {
      if (!box.isConnected || box.clientWidth === width) return;
      width = box.clientWidth;
      if (box.made) draw(box, specOf(box));
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

  document.addEventListener("click", function (event) {
    const button = event.target.closest(".copy");
    if (button) copy(button);
  });
  window.runtrue = { drawAll: drawAll, draw: draw, specOf: specOf };
  drawAll();
})();
