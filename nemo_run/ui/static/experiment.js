"use strict";
// One experiment: its graph, its jobs, and what they left.
ui.jobHash = (id, job, tab) => `#/e/${encodeURIComponent(id)}/job/${encodeURIComponent(job)}${tab ? `/${tab}` : ""}`;

ui.tabs = (base, tabs, current) => ui.h("nav", { class: "tabs", "aria-label": "Parts" }, tabs.map(([key, name]) => ui.h("a", { href: key === tabs[0][0] ? base : `${base}/${key}`, "aria-current": key === current ? "page" : null }, name)));

ui.pages.experiment = async (main, id, tab) => {
  tab = tab || "jobs";
  const head = ui.h("div", {}), body = ui.h("div", {});
  ui.show(main, head, body);
  let drawn = null;
  const draw = (found) => {
    if (found.problem) { ui.show(head, ui.problem(found.problem)); body.replaceChildren(); return; }
    const tabs = [["jobs", "Jobs"], ["timeline", "Timeline"], ["results", "Results"], ["metrics", "Metrics"], ["sweep", found.sweep ? "Sweep" : "Compare jobs"], ["artifacts", "Artifacts"], ["code", "Provenance"]];
    const counts = {};
    for (const job of found.jobs) counts[job.state] = (counts[job.state] || 0) + 1;
    ui.show(head, ui.h("h1", {}, ui.text(found.title), " ", ui.state(found.state)),
      ui.h("div", { class: "bar quiet" }, ui.h("span", { class: "mono" }, ui.text(found.id)), ui.when(found.created), found.ended && Object.keys(counts).every((s) => ui.final.has(s)) ? ui.h("span", {}, `took ${ui.duration(found.ended - found.created)}`) : null,
        Object.entries(counts).map(([name, n]) => ui.h("span", {}, `${n} ${name.toLowerCase()}`)), found.tags.map((tag) => ui.h("span", { class: "tag" }, ui.text(tag)))),
      found.received ? ui.h("p", { class: "note" }, `Received, and not yours: shown as it was stored. To make it yours: nemorun experiment adopt ${found.id}`) : null,
      found.hint ? ui.h("p", { class: "note" }, `INTERRUPTED: ${found.hint}`) : null, found.note ? ui.h("p", { class: "note" }, found.note) : null,
      ui.actionBar(found), ui.tabs(`#/e/${encodeURIComponent(id)}`, tabs, tab));
    // What is read from files is drawn again only when a job has come to an end, so that nothing jumps while one reads.
    const ends = JSON.stringify(found.jobs.map((job) => ui.final.has(job.state)));
    const live = tab === "jobs" || tab === "timeline" || tab === "metrics";
    if (live ? drawn !== JSON.stringify(found.jobs) + ends : drawn !== ends) {
      drawn = live ? JSON.stringify(found.jobs) + ends : ends;
      const top = main.scrollTop;
      ui.show(body, ui.experimentTabs[tab] ? ui.experimentTabs[tab](found) : ui.problem("there is no such part"));
      main.scrollTop = top;
    }
  };
  ui.onExperiment = draw;
  ui.cleanups.push(() => { ui.onExperiment = null; });
  draw(await ui.get(ui.of(id)));
};
ui.final = new Set(["SUCCEEDED", "FAILED", "CANCELLED"]);

ui.actionBar = (found) => {
  if (ui.exported || !ui.session.act || found.received) return null;
  const open = found.jobs.some((job) => !ui.final.has(job.state));
  const failed = found.jobs.filter((job) => job.state === "FAILED").length;
  const button = (name, run, options = {}) => ui.h("button", { type: "button", class: options.danger ? "danger" : null, on: { click: run } }, name);
  return ui.h("div", { class: "bar", role: "group", "aria-label": "Actions" },
    open ? button("Cancel", () => ui.act(found.id, "cancel", {}, `Cancel all jobs of ${found.id} that have not ended? What depends on them does not run.`), { danger: true }) : null,
    found.hint ? button("Resume", () => ui.act(found.id, "resume", {}, `Go on with ${found.id}? What has run is not run again.`)) : null,
    button("Rerun", () => ui.act(found.id, "rerun", {}, `Run ${found.id} again, with the configuration and the code of its day, under a new id?`)),
    failed && ui.session.actions.includes("rerun-failed") ? button(`Rerun what failed (${failed})`, () => ui.act(found.id, "rerun-failed", {}, `Run the ${failed} jobs of ${found.id} again that failed?`)) : null,
    button("Tags", async () => {
      const answer = await ui.ask("Tags, separated by spaces", "", { field: found.tags.join(" "), yes: "Save" });
      if (answer === null) return;
      const wanted = new Set(answer.split(/[\s,]+/).filter(Boolean)), added = [...wanted].filter((tag) => !found.tags.includes(tag)), gone = found.tags.filter((tag) => !wanted.has(tag));
      if (added.length) await ui.act(found.id, "tag", { tags: added });
      if (gone.length) await ui.act(found.id, "untag", { tags: gone });
    }),
    button("Note", async () => {
      const answer = await ui.ask("Note", "", { field: found.note, long: true, yes: "Save" });
      if (answer !== null) await ui.act(found.id, "note", { note: answer });
    }),
    open ? null : button(found.archived ? "Unarchive" : "Archive", () => ui.act(found.id, found.archived ? "unarchive" : "archive", {}, found.archived ? `Show ${found.id} in lists again?` : `Leave ${found.id} out of lists? Its files stay as they are.`)),
    open ? null : button("Delete", async () => { if (await ui.act(found.id, "delete", {}, `Delete ${found.id} with all logs and artifacts? This cannot be undone.`, true)) location.hash = "#/"; }, { danger: true }));
};

ui.act = async (id, action, request, question, danger) => {
  if (question && !(await ui.ask("Are you sure?", question, { yes: action === "cancel" ? "Cancel the jobs" : action[0].toUpperCase() + action.slice(1), danger: danger || action === "cancel" }))) return false;
  try {
    const answer = await fetch(ui.of(id, `/${action}`), { method: "POST", headers: { "content-type": "application/json", "x-nemo-run-action": ui.session.act }, body: JSON.stringify(request) });
    const said = await answer.json().catch(() => ({ error: answer.statusText }));
    if (said.error || !said.good || question) await ui.tell(said.good ? "Done" : "That did not work", said.error || said.said || "");
    ui.refresh();
    return Boolean(said.good);
  } catch (error) { await ui.tell("That did not work", error.message); return false; }
};

ui.worst = ["UNKNOWN", "FAILED", "RUNNING", "PENDING", "SUBMITTED", "UNSUBMITTED", "CANCELLED", "SUCCEEDED"];
ui.graph = (found) => {
  const jobs = new Map(found.jobs.map((job) => [job.id, job]));
  const wide = 210, high = 40, gapX = 70, gapY = 14, place = new Map(), nodes = [], edges = [];
  const tallest = Math.max(1, ...found.stages.map((stage) => stage.length));
  found.stages.forEach((stage, i) => stage.forEach((node, j) => {
    const x = 12 + i * (wide + gapX), y = 12 + (j + (tallest - stage.length) / 2) * (high + gapY);
    for (const job of node.jobs) place.set(job, [x, y]);
  }));
  for (const stage of found.stages) for (const node of stage) {
    const [x, y] = place.get(node.jobs[0]), members = node.jobs.map((job) => jobs.get(job));
    const state = ui.worst.find((one) => members.some((job) => job.state === one)) || members[0].state;
    const from = new Set(node.after.filter((other) => place.has(other)).map((other) => place.get(other).join()));
    for (const other of from) {
      const [ox, oy] = other.split(",").map(Number);
      edges.push(ui.s("path", { class: "edge", d: `M${ox + wide} ${oy + high / 2}C${ox + wide + gapX / 2} ${oy + high / 2} ${x - gapX / 2} ${y + high / 2} ${x} ${y + high / 2}` }));
    }
    const first = members[0], counts = {};
    for (const job of members) counts[job.state] = (counts[job.state] || 0) + 1;
    const name = members.length > 1 ? `${members.length} jobs` : first.id;
    const size = members.length > 1 ? "" : first.tasks.length > 1 ? `group of ${first.tasks.length}` : "";
    const under = members.length > 1 ? ui.worst.filter((one) => counts[one]).map((one) => `${counts[one]} ${one.toLowerCase()}`).join(", ") : [first.state.toLowerCase(), size, first.executor].filter(Boolean).join(" · ");
    const cut = (text, n) => (text.length > n ? `${text.slice(0, n / 2)}…${text.slice(-n / 2 + 1)}` : text);
    nodes.push(ui.s("a", { href: members.length > 1 ? `#/e/${encodeURIComponent(found.id)}/sweep` : ui.jobHash(found.id, first.id), class: `node ${state}`, "aria-label": ui.clean(`${name}, ${under}`) },
      ui.s("title", {}, `${members.map((job) => job.id).slice(0, 20).join(", ")}: ${under}${first.reason && members.length === 1 ? `: ${first.reason}` : ""}`),
      ui.s("rect", { x, y, width: wide, height: high, rx: 7 }), ui.s("circle", { cx: x + 13, cy: y + 14, r: 4.5, fill: "currentColor" }),
      ui.s("text", { x: x + 24, y: y + 18 }, cut(name, 26)), ui.s("text", { class: "quiet", x: x + 24, y: y + 33 }, cut(under, 28))));
  }
  const width = 24 + found.stages.length * (wide + gapX) - gapX, height = 24 + tallest * (high + gapY) - gapY;
  return ui.h("div", { class: "picture", tabindex: "0", role: "region", "aria-label": "Graph of the jobs" }, ui.s("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "group" }, edges, nodes));
};

// The last attempt of a task runs until now, if it has no end yet.
ui.gpuHours = (job) => {
  const ran = (one, i, all) => (one.started ? Math.max(0, (one.ended || (i === all.length - 1 ? Date.now() / 1000 : one.started)) - one.started) : 0);
  return job.tasks.reduce((sum, task) => sum + (task.gpus * task.attempts.map(ran).reduce((a, b) => a + b, 0)) / 3600, 0);
};
ui.jobColumns = (found) => [
  { name: "State", kind: "narrow", cell: (job) => ui.state(job.state) },
  { name: "Job", cell: (job) => [ui.h("a", { href: ui.jobHash(found.id, job.id) }, ui.text(job.id)), job.tasks.length > 1 ? ui.h("span", { class: "quiet" }, ` ${job.tasks.length} tasks`) : null, job.exception || job.reason ? ui.h("div", { class: "small quiet" }, ui.text(job.exception || job.reason)) : null] },
  { name: "Executor", kind: "hide-small", cell: (job) => ui.text(job.executor) },
  { name: "Node", kind: "hide-small", cell: (job) => ui.text(job.node || "") },
  { name: "After", kind: "hide-small", cell: (job) => ui.text(job.after.length > 3 ? `${job.after.length} jobs` : job.after.join(", ")) },
  { name: "Result", kind: "hide-small", cell: (job) => ui.h("span", { class: "mono", "data-outcome": job.id }) },
  { name: "Tries", kind: "number", cell: (job) => (job.restarts ? ui.h("span", { title: ui.clean(`last ended by: ${job.cause || "the task itself"}`) }, `${job.tries}, ${job.restarts} restarts`) : job.tries || "") },
  { name: "Exit", kind: "number", cell: (job) => (job.exit_code === null ? "" : job.exit_code) },
  { name: "Took", kind: "number", cell: (job) => (job.started ? ui.duration((job.ended || Date.now() / 1000) - job.started) : "") },
  ...(found.jobs.some((job) => job.expected) ? [{ name: "Expected start", kind: "narrow", cell: (job) => ui.when(job.expected) }] : []),
  ...(found.jobs.some(ui.gpuHours) ? [{ name: "GPU h", kind: "number", cell: (job) => { const hours = ui.gpuHours(job); return hours ? ui.number(Number(hours.toPrecision(3))) : ""; } }] : []),
];

// The result of a job in a few words, or the last values of its metrics; they are in files, so they come afterwards.
ui.brief = (one) => {
  if (one.value !== null && one.value !== undefined && !one.exception) return ui.short(one.value).slice(0, 80);
  return Object.entries(one.metrics || {}).slice(0, 3).map(([name, metric]) => `${name} ${ui.number(metric.last)}`).join(", ");
};
ui.outcomesOf = (found) => (found.jobs.length > 500 || !found.jobs.some((job) => job.started) ? Promise.resolve({}) : ui.get(ui.of(found.id, "/outcomes")).catch(() => ({})));
ui.fillOutcomes = async (outcomes, place) => {
  const all = await outcomes;
  for (const cell of place.querySelectorAll("[data-outcome]")) cell.textContent = ui.clean(ui.brief(all[cell.dataset.outcome] || {}));
};

ui.experimentTabs = {
  jobs: (found) => {
    const order = (job) => ui.worst.indexOf(job.state);
    const many = found.jobs.length > 200, shown = many ? [...found.jobs].sort((a, b) => order(a) - order(b)).slice(0, 200) : found.jobs;
    const find = ui.h("input", { type: "search", placeholder: "Find jobs", "aria-label": "Find jobs", on: { input: () => fill() } }), place = ui.h("div", {}), outcomes = ui.outcomesOf(found);
    const fill = () => { ui.show(place, ui.table(ui.jobColumns(found), find.value ? found.jobs.filter((job) => `${job.id} ${job.state} ${job.node} ${job.reason}`.toLowerCase().includes(find.value.toLowerCase())).slice(0, 500) : shown, { link: (job) => ui.jobHash(found.id, job.id), label: "Jobs" })); ui.fillOutcomes(outcomes, place); };
    fill();
    return [ui.graph(found), ui.h("h2", {}, "Jobs"), many ? ui.h("div", { class: "bar" }, find, ui.h("span", { class: "quiet" }, `200 of ${found.jobs.length} shown, those that failed or run first`)) : null, place];
  },
  timeline: (found) => {
    const all = found.jobs.flatMap((job) => job.tasks.flatMap((task) => task.attempts.filter((one) => one.started || one.submitted).map((one) => ({ job, task, one }))));
    if (!all.length) return ui.h("p", { class: "quiet" }, "Nothing has started yet.");
    const now = Date.now() / 1000, [from, to] = ui.span(all.flatMap(({ one }) => [one.submitted || one.started, one.ended || now]));
    const x = ui.scale(from, to, 0, 1000);
    const lanes = all.slice(0, 500).map(({ job, task, one }) => ui.h("div", { class: "lane" }, ui.h("a", { href: ui.jobHash(found.id, job.id), title: ui.clean(task.name) }, ui.text(task.name), one.attempt > 1 ? ` · attempt ${one.attempt}` : ""),
      ui.s("svg", { class: one.state, viewBox: "0 0 1000 16", height: 16, width: "100%", preserveAspectRatio: "none", role: "img", "aria-label": ui.clean(`${task.name}, attempt ${one.attempt}: ${one.state || "ended"}, ${one.started ? ui.duration((one.ended || now) - one.started) : "waited"}`) },
        one.submitted ? ui.s("rect", { x: x(one.submitted), y: 6, width: Math.max(1, x(one.started || one.ended || now) - x(one.submitted)), height: 4, fill: "currentColor", "fill-opacity": 0.3 }) : null,
        one.started ? ui.s("rect", { x: x(one.started), y: 2, width: Math.max(3, x(one.ended || now) - x(one.started)), height: 12, rx: 3, fill: "currentColor" }) : null,
        ui.s("title", {}, `${task.name}, attempt ${one.attempt}: ${(one.state || "").toLowerCase()} ${one.reason || ""} ${one.started ? ui.duration((one.ended || now) - one.started) : ""}`))));
    return [ui.h("p", { class: "quiet" }, `${new Date(from * 1000).toLocaleString()} to ${new Date(to * 1000).toLocaleString()}; thin: waiting, thick: running`), lanes];
  },
  results: (found) => ui.later(ui.get(ui.of(found.id, "/outcomes")), (all) => Object.entries(all).slice(0, 300).map(([job, one]) => [ui.h("h2", {}, ui.h("a", { href: ui.jobHash(found.id, job) }, ui.text(job)), " ", ui.state(one.state)), ui.outcome(one)])),
  metrics: (found) => ui.later(ui.get(ui.of(found.id, "/metrics")), (all) => ui.overlaid(Object.entries(all).map(([job, metrics]) => [job, metrics]))),
  sweep: (found) => ui.later(ui.get(ui.of(found.id, "/trials")), (all) => ui.sweepPage(found.id, all)),
  artifacts: (found) => ui.later(ui.get(ui.of(found.id, "/artifacts")), (files) => (files.length ? ui.table([
    { name: "Task", cell: (one) => ui.text(one.task) }, { name: "File", cell: (one) => ui.text(one.path) }, { name: "Size", kind: "number", cell: (one) => ui.bytes(one.size) }, { name: "Written", kind: "narrow", cell: (one) => ui.when(one.modified) }], files.slice(0, 2000), { label: "Artifacts" }) : ui.h("p", { class: "quiet" }, "No task left files in $NEMO_RUN_ARTIFACTS."))),
  code: (found) => ui.later(ui.get(ui.of(found.id, "/provenance")), (one) => [
    ui.h("dl", {}, ["user", "host", "cwd", "directory", "python", "executable", "platform", "nemo_run", "rerun_of"].filter((name) => one[name]).map((name) => [ui.h("dt", {}, name), ui.h("dd", { class: "mono" }, ui.text(ui.short(one[name])))]), one.argv ? [ui.h("dt", {}, "command"), ui.h("dd", { class: "mono" }, ui.text([one.argv].flat().join(" ")))] : null),
    one.code.map((code) => [ui.h("h2", {}, "Code ", ui.h("span", { class: "mono" }, ui.text(code.root || ""))), ui.h("dl", {}, ["kind", "commit", "branch", "remote"].filter((name) => code[name]).map((name) => [ui.h("dt", {}, name), ui.h("dd", { class: "mono" }, ui.text(ui.short(code[name])))])), code.diff ? ui.diff(code.diff) : null])]),
};
ui.diff = (text) => ui.h("pre", { class: "box", tabindex: "0", role: "region", "aria-label": "Changes that were not committed" }, text.split("\n").map((line) => ui.h("div", { class: line.startsWith("+") && !line.startsWith("+++") ? "added" : line.startsWith("-") && !line.startsWith("---") ? "removed" : null }, line || " ")));

ui.outcome = (one) => {
  const error = one.exception;
  return [
    one.problem ? ui.h("p", { class: "note" }, ui.text(one.problem)) : null,
    one.shown ? ui.h("pre", { class: "box", tabindex: "0" }, one.shown) : one.value !== null && one.value !== undefined ? ui.h("div", { class: "tree" }, ui.tree(one.value, undefined, true)) : null,
    error ? [ui.h("p", { class: "note bad" }, `${error.type}: ${error.message}${error.rank ? ` (rank ${error.rank})` : ""}`),
      (error.frames || []).length ? ui.table([{ name: "File", cell: (f) => ui.h("span", { class: "mono" }, ui.text(`${f.file}:${f.line}`)) }, { name: "Function", cell: (f) => ui.text(f.function) }, { name: "Line", cell: (f) => ui.h("code", {}, ui.text(f.source)) }], error.frames, { label: "Where it was raised" }) : null,
      ui.h("details", {}, ui.h("summary", {}, "Traceback"), ui.h("pre", { class: "box", tabindex: "0" }, error.traceback))] : null,
    !one.shown && !one.problem && !error && (one.value === null || one.value === undefined) ? ui.h("p", { class: "quiet" }, "No result.") : null,
  ];
};

// Metrics of the same name in one picture: [[name of a curve, metrics]]
ui.overlaid = (all) => {
  const byName = new Map();
  for (const [curve, metrics] of all) for (const [name, one] of Object.entries(metrics)) byName.set(name, [...(byName.get(name) || []), { name: curve, x: one.x, y: one.y }]);
  if (!byName.size) return ui.h("p", { class: "quiet" }, "No task has logged metrics: run.log_metrics({...}), or lines in $NEMO_RUN_METRICS.");
  return ui.h("div", { class: "charts" }, [...byName].map(([name, curves]) => ui.curves(curves.length > 24 ? `${name} (24 of ${curves.length})` : name, curves.slice(0, 24))));
};
