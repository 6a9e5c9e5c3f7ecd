"use strict";
// Several experiments, or the jobs of one, side by side.
ui.sweepPage = (id, found) => {
  const trials = found.trials, names = [...new Set(trials.flatMap((t) => Object.keys(t.parameters)))], results = [...new Set(trials.flatMap((t) => Object.keys(t.results)))];
  if (!trials.length) return ui.h("p", { class: "quiet" }, "There are no jobs.");
  const told = trials.filter((t) => typeof t.objective === "number"), best = told[0];
  const pictures = told.length > 1 && names.length ? [ui.h("h2", {}, "Parallel coordinates"), ui.parallel(told, names, found.objective),
    ui.h("h2", {}, "Importance"), ui.h("p", { class: "quiet small" }, "How much of the variance each parameter explains by itself."), ui.bars(ui.importance(told, names)),
    ui.h("h2", {}, "By parameter"), ui.h("div", { class: "charts" }, names.slice(0, 12).map((name) => ui.scatter(told, name, found.objective)))] : null;
  const words = `nemorun experiment compare ${id} --best --to-yaml best.yaml`;
  const copied = ui.h("span", { class: "quiet", role: "status" });
  return [best ? ui.h("div", { class: "note" }, `Best: ${best.job} with ${found.objective} ${ui.number(best.objective)}. Its configuration: `, ui.h("code", {}, words), " ", ui.h("button", { type: "button", on: { click: () => navigator.clipboard.writeText(words).then(() => { copied.textContent = "copied"; }, () => { copied.textContent = "cannot copy here"; }) } }, "Copy"), " ", copied) : null,
    pictures, ui.h("h2", {}, "Jobs"),
    ui.table([{ name: "Job", cell: (t) => ui.h("a", { href: ui.jobHash(id, t.job) }, ui.text(t.job)) }, { name: "State", kind: "narrow", cell: (t) => ui.state(t.state) },
      ...names.map((name) => ({ name, kind: "number", cell: (t) => ui.text(ui.number(t.parameters[name])) })), ...(results.length ? results : ["objective"]).map((name) => ({ name, kind: "number", cell: (t) => ui.text(ui.number(results.length ? t.results[name] : t.objective)) }))], trials.slice(0, 1000), { label: "Jobs, the best first" })];
};

// A value of a configuration; a long one is opened on demand.
ui.longValue = (value, kind) => {
  const text = ui.short(value);
  const shown = (part) => ui.h("code", { class: kind }, ui.text(part));
  return text.length <= 160 ? shown(text) : ui.h("details", {}, ui.h("summary", {}, shown(`${text.slice(0, 80)} …`)), shown(text));
};

ui.pages.compare = async (main, ids) => {
  if (ids.length < 2) { ui.show(main, ui.h("p", { class: "note" }, "Choose at least two experiments in the list.")); return; }
  const found = await ui.get(ui.address("api/compare", { id: ids }));
  const curves = Object.entries(found.metrics).flatMap(([id, jobs]) => Object.entries(jobs).map(([job, metrics]) => [`${id} ${job}`, metrics]));
  ui.show(main, ui.h("h1", {}, "Comparison"), ui.h("p", { class: "quiet" }, "Differences from ", ui.h("a", { href: `#/e/${encodeURIComponent(ids[0])}` }, ui.text(ids[0]))),
    found.differences.map((one) => [ui.h("h2", {}, ui.h("a", { href: `#/e/${encodeURIComponent(one.id)}` }, ui.text(one.id))), one.changes.length ? ui.table([
      { name: "Where", cell: (c) => ui.h("code", {}, ui.text(c.path)) }, { name: "First", cell: (c) => ui.longValue(c.kind === "added" ? "" : c.old, c.kind === "added" ? null : "removed") }, { name: "This", cell: (c) => ui.longValue(c.kind === "removed" ? "" : c.new, c.kind === "removed" ? null : "added") }], one.changes.slice(0, 1000), { label: `Differences of ${one.id}` }) : ui.h("p", { class: "quiet" }, "No differences.")]),
    ui.h("h2", {}, "Metrics"), ui.overlaid(curves));
};
