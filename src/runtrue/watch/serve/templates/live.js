// Follows a run: when the server says that something has changed, the page is fetched again and what differs is exchanged.
// A chart keeps its figure and gets the new numbers; only one that is of another kind now is drawn anew.
(function () {
  "use strict";
  const place = document.currentScript.dataset.follow, sign = document.getElementById("live");
  let source = null, busy = false, again = false;

  function say(text, tone) {
    if (sign.textContent !== text) sign.textContent = text;
    sign.className = "tag " + tone;
  }

  function follow() {
    if (source || document.hidden) return;
    source = new EventSource(place);
    source.onopen = function () { say("following", "good"); };
    source.onerror = function () { say("not connected", "bad"); };
    source.addEventListener("changed", refresh);
  }

  // A page that nobody sees costs nothing; it catches up when it is seen again.
  document.addEventListener("visibilitychange", function () {
    if (document.hidden && source) { source.close(); source = null; say("not connected", ""); }
    if (!document.hidden) { refresh(); follow(); }
  });
  window.addEventListener("pagehide", function () { if (source) { source.close(); source = null; } });

  function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    again = false;
    fetch(window.location.href, { cache: "no-store" }).then(function (answer) {
      if (!answer.ok) throw new Error(answer.status);
      return answer.text();
    }).then(function (text) {
      const next = new DOMParser().parseFromString(text, "text/html");
      document.title = next.title;
      ["h1", ".subtitle", "main"].forEach(function (part) {
        const now = document.querySelector(part), then = next.querySelector(part);
        if (now && then) sync(now, then);
      });
      window.runtrue.drawAll();
      document.documentElement.dataset.refreshed = 1 + Number(document.documentElement.dataset.refreshed || 0);
    }).catch(function () { say("not connected", "bad"); }).finally(function () {
      busy = false;
      if (again) window.setTimeout(refresh, 500);
    });
  }

  function sync(now, then) {
    const parts = "figure.figure, input, details";
    if (now.tagName === "DETAILS" && then.tagName === "DETAILS") then.open = now.open;
    if (now.matches("figure.figure") && then.matches("figure.figure")) return exchange(now, then);
    if (now.tagName !== then.tagName || !(now.querySelector(parts) || then.querySelector(parts))) return replace(now, then);
    if (now.className !== then.className) now.className = then.className;
    const old = {};
    Array.from(now.children).forEach(function (child) { (old[key(child)] = old[key(child)] || []).push(child); });
    let before = now.firstElementChild;
    Array.from(then.children).forEach(function (child) {
      const same = (old[key(child)] || []).shift();
      if (!same) now.insertBefore(document.adoptNode(child), before);
      else {
        if (same === before) before = before.nextElementSibling;
        else now.insertBefore(same, before);
        sync(same, child);
      }
    });
    Object.values(old).flat().forEach(function (child) { child.remove(); });
    return undefined;
  }

  function key(part) {
    const caption = part.matches("figure.figure") ? part.dataset.name : "";
    return [part.tagName, part.id, part.dataset.run || "", caption].join(" ");
  }

  function replace(now, then) {
    if (now.outerHTML === then.outerHTML) return;
    now.replaceWith(document.adoptNode(then));
  }

  function exchange(now, then) {
    const box = now.querySelector(".plot"), spec = now.querySelector(".spec"), fresh = then.querySelector(".spec").textContent;
    const caption = now.querySelector("figcaption"), said = then.querySelector("figcaption");
    box.setAttribute("aria-label", then.querySelector(".plot").getAttribute("aria-label"));
    if (caption && said) replace(caption, said);
    if (spec.textContent === fresh) return;
    const before = JSON.parse(spec.textContent), after = JSON.parse(fresh);
    spec.textContent = fresh;
    if (!box.made) return;
    if (!alike(before, after)) { window.runtrue.draw(box, after); return; }
    try {
      Object.keys(after.datasets).forEach(function (name) {
        box.made.view.data(name, after.datasets[name]);
      });
      box.made.view.runAsync();
      box.dataset.exchanged = 1 + Number(box.dataset.exchanged || 0);
    } catch (error) { window.runtrue.draw(box, after); }
  }

  // Two figures that differ in their numbers alone.
  function alike(a, b) {
    const bare = [a, b].map(function (spec) {
      return JSON.stringify(Object.assign({}, spec, { datasets: Object.keys(spec.datasets || {}), description: "" }));
    });
    return bare[0] === bare[1];
  }

  function count() {
    const said = document.getElementById("chosen");
    const chosen = document.querySelectorAll("input[name=run]:checked").length;
    if (said) said.textContent = chosen ? chosen + " chosen" : "";
  }
  document.addEventListener("change", count);
  count();
  follow();
})();
