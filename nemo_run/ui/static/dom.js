"use strict";
// Building blocks: nodes are made of texts only, so that nothing that was stored is ever markup.
const ui = { pages: {}, cleanups: [] };

ui.node = (make, props, children) => {
  for (const [name, value] of Object.entries(props || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "on") for (const [event, handler] of Object.entries(value)) make.addEventListener(event, handler);
    else if (name === "value" || name === "checked") make[name] = value;
    else make.setAttribute(name, value === true ? "" : value);
  }
  make.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false).map(
    (one) => (one instanceof Node ? one : ui.clean(one))));
  return make;
};
ui.h = (tag, props, ...children) => ui.node(document.createElement(tag), props, children);
ui.s = (tag, props, ...children) => ui.node(document.createElementNS("http://www.w3.org/2000/svg", tag), props, children);

// Control characters, and those that change the direction of a text, are shown as what they are.
ui.odd = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g;
ui.clean = (text) => String(text).replace(ui.odd, (c) => "\\u" + c.charCodeAt(0).toString(16).padStart(4, "0"));

ui.exported = window.nemorunExport || null;
ui.address = (path, query) => {
  const words = new URLSearchParams();
  for (const [name, value] of Object.entries(query || {})) {
    for (const one of [value].flat()) if (one !== null && one !== undefined) words.append(name, one);
  }
  return words.toString() ? `${path}?${words}` : path;
};
ui.of = (id, rest, query) => ui.address(`api/experiments/${encodeURIComponent(id)}${rest || ""}`, query);
ui.get = async (address) => {
  if (ui.exported) {
    if (address in ui.exported.documents) return ui.exported.documents[address];
    throw new Error("this is not part of what was exported");
  }
  const answer = await fetch(address, { headers: { accept: "application/json" } });
  if (!(answer.headers.get("content-type") || "").includes("json")) throw new Error((await answer.text()).trim());
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
};

ui.state = (state) => ui.h("span", { class: `state ${state || "DAMAGED"}` }, ui.h("i", { "aria-hidden": "true" }), (state || "DAMAGED").toLowerCase());
ui.duration = (seconds) => {
  if (seconds === null || seconds === undefined || !isFinite(seconds)) return "";
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 100) return `${s.toFixed(0)} s`;
  if (s < 6000) return `${Math.floor(s / 60)} min ${Math.floor(s % 60)} s`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
};
ui.when = (time) => {
  if (!time) return "";
  const ago = Date.now() / 1000 - time, s = Math.abs(ago);
  const far = s < 5400 ? `${Math.round(s / 60)} min` : s < 129600 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} d`;
  const text = ago < -90 ? `in ${far}` : ago < 90 ? "just now" : `${far} ago`;
  const date = new Date(time * 1000);
  return ui.h("time", { datetime: date.toISOString(), title: date.toLocaleString() }, text);
};
ui.bytes = (size) => {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let i = 0;
  for (; size >= 1000 && i < 4; i++) size /= 1000;
  return `${i && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[i]}`;
};
ui.used = (hours, gpuHours) => (gpuHours ? `${ui.number(Number(gpuHours.toPrecision(3)))} GPU h` : hours ? ui.duration(hours * 3600) : "");
ui.number = (value) => (typeof value === "number" ? (Number.isInteger(value) ? String(value) : value.toPrecision(6).replace(/\.?0+($|e)/, "$1")) : ui.short(value));
ui.short = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
ui.text = (text) => ui.h("bdi", {}, text);

ui.table = (columns, rows, options = {}) => {
  const kind = (column) => column.kind || "";
  const head = ui.h("tr", {}, columns.map((c) => ui.h("th", { scope: "col", class: kind(c) }, c.name)));
  const body = rows.map((row) => {
    const link = options.link && options.link(row);
    return ui.h("tr", { class: link ? "link" : null, on: link ? { click: (e) => { if (!e.target.closest("a,button,input")) location.hash = link; } } : null },
      columns.map((c) => ui.h("td", { class: kind(c) }, c.cell(row))));
  });
  return ui.h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": options.label || "Table" }, ui.h("table", {}, ui.h("thead", {}, head), ui.h("tbody", {}, body)));
};

ui.tree = (value, name, open) => {
  const label = name === undefined ? null : [ui.h("b", {}, ui.text(name)), ": "];
  if (value === null || typeof value !== "object") return ui.h("div", { class: "leaf mono" }, label, ui.text(JSON.stringify(value)));
  const entries = Object.entries(value);
  const own = Array.isArray(value) ? `[${entries.length}]` : value._target_ ? ui.short(value._target_) : `{${entries.length}}`;
  if (!entries.length) return ui.h("div", { class: "leaf mono" }, label, Array.isArray(value) ? "[]" : "{}");
  return ui.h("details", { open }, ui.h("summary", { class: "mono" }, label, ui.h("span", { class: "quiet" }, ui.text(own))),
    entries.filter(([key]) => key !== "_target_").map(([key, one]) => ui.tree(one, key, open)));
};

ui.show = (place, ...children) => { place.replaceChildren(); ui.node(place, {}, children); };
ui.problem = (error) => ui.h("p", { class: "note bad", role: "alert" }, String(error.message || error));
// Show what a promise brings; what went wrong is shown in its place.
ui.later = (promise, draw) => {
  const place = ui.h("div", {}, ui.h("p", { class: "quiet loading" }, "Loading …"));
  promise.then((found) => ui.show(place, draw(found))).catch((error) => ui.show(place, ui.problem(error)));
  return place;
};

ui.ask = (title, text, options = {}) => new Promise((resolve) => {
  const dialog = document.getElementById("dialog");
  const before = document.activeElement;
  const field = options.field !== undefined ? ui.h(options.long ? "textarea" : "input", { "aria-label": title, value: options.field, rows: options.long ? 5 : null }) : null;
  const close = (answer) => { dialog.onclose = null; dialog.close(); if (before && before.focus) before.focus(); resolve(answer); };
  const yes = ui.h("button", { type: "submit", class: options.danger ? "danger" : "main" }, options.yes || "Yes");
  const form = ui.h("form", { method: "dialog", on: { submit: (e) => { e.preventDefault(); close(field ? field.value : true); } } },
    ui.h("h2", { id: "dialog-title" }, title), text ? ui.h("pre", {}, text) : null, field,
    ui.h("div", { class: "bar" }, options.only ? null : ui.h("button", { type: "button", on: { click: () => close(null) } }, "No"), yes));
  ui.show(dialog, form);
  dialog.onclose = () => resolve(null);
  dialog.showModal();
  (field || yes).focus();
});
ui.tell = (title, text) => ui.ask(title, text, { yes: "Close", only: true });
