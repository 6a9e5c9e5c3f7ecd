"use strict";
// All experiments: drawn where they are seen, so that very many scroll smoothly.
ui.rows = new Map();
ui.chosen = new Set();
ui.listState = { text: "", state: "", sort: "created", down: true, ids: null, condition: "", cursor: 0, archived: false };

ui.pages.list = async (main) => {
  const state = ui.listState;
  const search = ui.h("input", { type: "search", value: state.text, placeholder: "Find: title, id, tag:paper, since:7d", "aria-label": "Find experiments", id: "search", on: { input: () => { state.text = search.value; draw(); } } });
  const condition = ui.h("input", { value: state.condition, placeholder: "Parameters and results: model.layers > 8 and accuracy > 0.9", "aria-label": "Condition on parameters and results", on: { keydown: (e) => { if (e.key === "Enter") where(); }, change: () => where() } });
  const states = ["", "running", "failed", "succeeded", "cancelled", "interrupted", "pending", "unsubmitted", "unknown", "damaged"];
  const choice = ui.h("select", { "aria-label": "State", on: { change: () => { state.state = choice.value; draw(); } } }, states.map((one) => ui.h("option", { value: one }, one || "every state")));
  choice.value = state.state;
  const archived = ui.h("input", { type: "checkbox", checked: state.archived, on: { change: () => { state.archived = archived.checked; draw(); } } });
  const count = ui.h("span", { class: "quiet", role: "status" });
  const compare = ui.h("button", { type: "button", on: { click: () => { location.hash = ui.address("#/compare", { id: [...ui.chosen] }); } } }, "Compare");
  const inner = ui.h("div", {});
  const box = ui.h("div", { class: "rows", tabindex: "0", role: "list", "aria-label": "Experiments", on: { scroll: () => paint(), keydown: (e) => keys(e) } }, inner);
  const sorter = (name, key) => ui.h("button", { type: "button", on: { click: () => { state.down = state.sort === key ? !state.down : true; state.sort = key; draw(); } } }, name);
  const head = ui.h("div", { class: "head" }, ui.h("span"), sorter("State", "state"), sorter("Experiment", "id"), sorter("Launched", "created"), sorter("Took", "took"), sorter("Used", "used"), ui.h("span", {}, "Jobs and tags"));
  const failed = ui.h("div", {});
  ui.show(main, ui.h("div", { class: "list" }, ui.h("h1", {}, "Experiments"), ui.h("div", { class: "bar" }, ui.h("span", { class: "grow" }, search), choice, ui.h("span", { class: "grow" }, condition), ui.h("label", { class: "quiet" }, archived, "archived"), compare, count), failed, head, box));

  const where = async () => {
    if (state.condition === condition.value && state.ids !== undefined && !condition.value) return;
    state.condition = condition.value; state.ids = null; failed.replaceChildren();
    if (condition.value.trim()) {
      try { state.ids = new Set(await ui.get(ui.address("api/where", { condition: condition.value }))); } catch (error) { ui.show(failed, ui.problem(error)); }
    }
    draw();
  };
  let found = [], height = 40;
  const ages = { m: 60, h: 3600, d: 86400, w: 604800 };
  const fits = (row) => state.text.toLowerCase().split(/\s+/).filter(Boolean).every((word) => {
    if (word.startsWith("tag:")) return row.tags.some((tag) => tag.toLowerCase().includes(word.slice(4)));
    const since = /^since:(\d+)([mhdw])$/.exec(word);
    if (since) return (row.created || 0) > Date.now() / 1000 - since[1] * ages[since[2]];
    return row.words.includes(word);
  });
  const took = (row) => (row.ended && row.created ? row.ended - row.created : -1);
  const draw = () => {
    found = [...ui.rows.values()].filter((row) => (!state.state || (row.state || "damaged").toLowerCase() === state.state) && (!state.ids || state.ids.has(row.id)) && (state.archived || !row.archived) && fits(row));
    const key = { created: (r) => r.created || 0, took, used: (r) => (r.gpu_hours || 0) * 1e9 + (r.hours || 0), id: (r) => r.id, state: (r) => r.state }[state.sort];
    found.sort((a, b) => (key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0));
    if (state.down) found.reverse();
    count.textContent = found.length === ui.rows.size ? `${found.length}` : `${found.length} of ${ui.rows.size}`;
    compare.disabled = ui.chosen.size < 2;
    height = window.matchMedia("(max-width: 700px)").matches ? 60 : 40;
    inner.style.height = `${found.length * height}px`;
    if (!found.length) ui.show(inner, ui.h("p", { class: "quiet" }, ui.rows.size ? "None of the experiments is so." : "There are no experiments yet; launch one, and it appears here."));
    else inner.replaceChildren();
    state.cursor = Math.min(state.cursor, Math.max(0, found.length - 1));
    paint(true);
  };
  const line = (row, i) => {
    const counts = Object.entries(row.jobs).map(([name, n]) => `${n} ${name.toLowerCase()}`).join(", ");
    const pick = ui.h("input", { type: "checkbox", checked: ui.chosen.has(row.id), "aria-label": `Choose ${row.id} to compare`, on: { change: () => { ui.chosen[pick.checked ? "add" : "delete"](row.id); compare.disabled = ui.chosen.size < 2; } } });
    const element = ui.h("div", { class: `row${i === state.cursor ? " chosen" : ""}`, role: "listitem" }, ui.h("span", { class: "pick" }, pick), ui.h("span", { class: "status" }, ui.state(row.state)),
      ui.h("a", { class: "title", href: `#/e/${encodeURIComponent(row.id)}`, title: ui.clean(row.title) }, ui.text(row.id)), ui.h("span", { class: "when" }, ui.when(row.created)), ui.h("span", { class: "took" }, ui.duration(took(row) < 0 ? null : took(row))),
      ui.h("span", { class: "used", title: "What its tasks have used, by their times" }, ui.used(row.hours, row.gpu_hours)), ui.h("span", { class: "what quiet", title: ui.clean(row.problem || counts) }, row.received ? ui.h("span", { class: "tag" }, "received") : null, row.archived ? ui.h("span", { class: "tag" }, "archived") : null, row.name ? [ui.text(row.name), " "] : null, row.tags.map((tag) => [ui.h("span", { class: "tag" }, ui.text(tag)), " "]), " ", ui.text(row.problem || counts)));
    element.style.top = `${i * height}px`;
    return element;
  };
  let drawn = [-1, -1];
  const paint = (again) => {
    const from = Math.max(0, Math.floor(box.scrollTop / height) - 8), to = Math.min(found.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + 8);
    if (!found.length || (!again && drawn[0] === from && drawn[1] === to)) return;
    drawn = [from, to];
    const focused = document.activeElement && inner.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    inner.replaceChildren(...found.slice(from, to).map((row, i) => line(row, from + i)));
    if (focused) { const same = [...inner.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused); if (same) same.focus({ preventScroll: true }); }
  };
  const keys = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, j: 1, k: -1 }[event.key];
    if (event.key === "Enter" && event.target === box && found[state.cursor]) location.hash = `#/e/${encodeURIComponent(found[state.cursor].id)}`;
    else if (event.key === "x" && found[state.cursor]) { const id = found[state.cursor].id; ui.chosen[ui.chosen.has(id) ? "delete" : "add"](id); draw(); }
    else if (step) {
      event.preventDefault();
      state.cursor = Math.max(0, Math.min(found.length - 1, state.cursor + step));
      const top = state.cursor * height;
      if (top < box.scrollTop) box.scrollTop = top; else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
      paint(true);
    }
  };
  ui.onList = () => draw();
  ui.cleanups.push(() => { ui.onList = null; });
  const resized = () => draw();
  window.addEventListener("resize", resized);
  ui.cleanups.push(() => window.removeEventListener("resize", resized));
  if (!ui.rows.size) ui.takeRows(await ui.get("api/experiments"));
  draw();
};
ui.takeRows = (rows) => {
  for (const row of rows) {
    row.words = `${row.id} ${row.title} ${row.name || ""} ${row.tags.join(" ")} ${row.state}`.toLowerCase();
    ui.rows.set(row.id, row);
  }
};
