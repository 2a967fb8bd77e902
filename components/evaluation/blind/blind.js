"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const store = "styleforge-blind-" + data.page;
  const by = (id) => document.getElementById(id);
  const fresh = () => ({ person: random(), name: "", answers: [] });

  // crypto.randomUUID is missing where a page is no "secure context".
  function random() {
    return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function load() {
    try {
      const kept = JSON.parse(localStorage.getItem(store));
      if (kept && Array.isArray(kept.answers) && kept.person) return kept;
    } catch {}
    return fresh();
  }

  function keep() {
    try {
      localStorage.setItem(store, JSON.stringify(state));
      by("kept").textContent = "";
    } catch {
      by("kept").textContent = "This browser does not keep your answers: save them before you close the page.";
    }
  }

  let state = load();
  let since = performance.now();

  function show() {
    const done = state.answers.length, all = data.pairs.length, pair = data.pairs[done];
    by("bar").style.width = (100 * done) / all + "%";
    document.querySelector(".progress").setAttribute("aria-valuenow", done);
    by("count").textContent = done + " of " + all + " answered";
    by("undo").disabled = done === 0;
    by("save").disabled = done === 0;
    by("question").hidden = !pair;
    by("end").hidden = Boolean(pair);
    by("name").value = state.name;
    if (!pair) return;
    by("prompt").textContent = pair.text;
    ["left", "right"].forEach((side, place) => {
      const image = by(side).querySelector("img"), shown = pair.images[place];
      image.src = shown.uri;
      image.width = shown.width;
      image.height = shown.height;
      image.className = shown.small ? "small" : "";
    });
    since = performance.now();
  }

  function choose(choice) {
    const pair = data.pairs[state.answers.length];
    if (!pair) return;
    state.answers.push({ pair: pair.pair, choice, seconds: Math.round(performance.now() - since) / 1000 });
    keep();
    show();
  }

  function undo() {
    if (state.answers.pop()) {
      keep();
      show();
    }
  }

  function save() {
    const text = JSON.stringify({ schema: 1, page: data.page, ...state, saved: new Date().toISOString() }, null, 2);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "answers-" + (state.name.trim().replace(/[^\w-]+/g, "-") || state.person) + ".json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  by("left").addEventListener("click", () => choose("left"));
  by("right").addEventListener("click", () => choose("right"));
  by("undo").addEventListener("click", undo);
  by("save").addEventListener("click", save);
  by("again").addEventListener("click", () => {
    if (!confirm("Are the answers saved? They are removed from this page.")) return;
    state = fresh();
    keep();
    show();
  });
  by("name").addEventListener("input", (event) => {
    state.name = event.target.value;
    keep();
  });
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input") || event.altKey || event.metaKey || event.repeat) return;
    const undoing = event.key === "Backspace" || event.key.toLowerCase() === (event.ctrlKey ? "z" : "u");
    if (undoing) undo();
    else if (event.ctrlKey) return;
    else if (event.key === "ArrowLeft") choose("left");
    else if (event.key === "ArrowRight") choose("right");
    else return;
    event.preventDefault();
  });
  show();
})();
