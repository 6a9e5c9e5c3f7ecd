"use strict";
// One job: logs of every attempt, configuration, metrics, files, result.
ui.pages.job = async (main, id, job, tab) => {
  tab = tab || "log";
  const head = ui.h("div", {}), body = ui.h("div", {});
  ui.show(main, head, body);
  const draw = (found) => {
    const one = (found.jobs || []).find((other) => other.id === job);
    if (!one) { ui.show(head, ui.problem(found.problem || `the experiment has no job ${job}`)); return null; }
    const open = !ui.final.has(one.state);
    ui.show(head, ui.h("h1", {}, ui.text(one.id), " ", ui.state(one.state)),
      ui.h("div", { class: "bar quiet" }, ui.h("span", {}, ui.text(one.executor)), one.node ? ui.h("span", {}, "on ", ui.text(one.node)) : null, one.started ? ui.h("span", {}, ui.duration((one.ended || Date.now() / 1000) - one.started)) : null, one.exit_code !== null ? ui.h("span", {}, `exit code ${one.exit_code}`) : null, one.tries > 1 ? ui.h("span", {}, `${one.tries} tries`) : null,
        one.after.length ? ui.h("span", {}, "after ", one.after.slice(0, 5).map((other) => [ui.h("a", { href: ui.jobHash(id, other) }, ui.text(other)), " "])) : null,
        open && ui.session.act && !found.received && !ui.exported ? ui.h("button", { type: "button", class: "danger", on: { click: () => ui.act(id, "cancel", { jobs: [job] }, `Cancel ${job}? What depends on it does not run.`) } }, "Cancel") : null),
      one.exception || one.reason ? ui.h("p", { class: `note ${one.state === "FAILED" ? "bad" : ""}` }, one.exception || one.reason) : null,
      ui.tabs(ui.jobHash(id, job), [["log", "Log"], ["configuration", "Configuration"], ["metrics", "Metrics"], ["artifacts", "Artifacts"], ["result", "Result"]], tab));
    return one;
  };
  const found = await ui.get(ui.of(id)), one = draw(found);
  if (!one) return;
  ui.show(body, ui.jobTabs[tab] ? ui.jobTabs[tab](id, one) : ui.problem("there is no such part"));
  let ended = ui.final.has(one.state);
  ui.onExperiment = (next) => {
    const now = draw(next);
    if (now && !ended && ui.final.has(now.state) && tab !== "log") { ended = true; ui.show(body, ui.jobTabs[tab](id, now)); }
  };
  ui.cleanups.push(() => { ui.onExperiment = null; });
};

ui.jobTabs = {
  log: (id, job) => {
    const all = job.tasks.flatMap((task, i) => task.attempts.filter((one) => one.attempt).map((one) => ({ label: `${task.name}${one.attempt > 1 || task.attempts.length > 1 ? `, attempt ${one.attempt}` : ""}`, task: i, attempt: one.attempt })));
    if (!all.length) return ui.h("p", { class: "quiet" }, "It has not started, so there is no log yet.");
    const place = ui.h("div", {}), rank = ui.h("input", { type: "number", min: 0, placeholder: "all", "aria-label": "Rank", on: { change: () => open() } });
    const choice = ui.h("select", { "aria-label": "Task and attempt", on: { change: () => open() } }, all.map((one, i) => ui.h("option", { value: i }, one.label)));
    choice.value = String(all.length - 1);
    if (job.tasks.length > 1) choice.value = String(all.findIndex((one) => one.task === 0));
    const open = () => {
      const one = all[Number(choice.value)];
      ui.show(place, new ui.LogView(id, { job: job.id, task: one.task, attempt: one.attempt, rank: rank.value || null }).element);
    };
    open();
    ui.cleanups.push(() => ui.watchLog(null));
    return [ui.h("div", { class: "bar" }, all.length > 1 ? choice : null, ui.exported ? null : ui.h("label", { class: "quiet" }, "rank ", rank)), place];
  },
  configuration: (id, job) => ui.later(ui.get(ui.of(id, "/configuration", { job: job.id })), (all) => all.map((one, i) => ui.h("div", { class: "tree" }, ui.h("h2", {}, ui.text(job.tasks[i] ? job.tasks[i].name : "task")), ui.tree(one.config, undefined, true), ui.h("h2", {}, "Executor"), ui.tree(one.executor, undefined, true)))),
  metrics: (id, job) => ui.later(ui.get(ui.of(id, "/metrics", { job: job.id })), (all) => ui.overlaid(Object.entries(all))),
  artifacts: (id, job) => ui.later(ui.get(ui.of(id, "/artifacts", { job: job.id })), (files) => {
    if (!files.length) return ui.h("p", { class: "quiet" }, "No files were left in $NEMO_RUN_ARTIFACTS.");
    const place = ui.h("div", {});
    const address = (one, more) => ui.of(id, "/artifact", { job: job.id, task: one.task, path: one.path, ...more });
    const show = async (one) => {
      if (/\.(png|jpe?g|gif|webp)$/i.test(one.path)) { ui.show(place, ui.h("h2", {}, ui.text(one.path)), ui.h("img", { class: "artifact", src: address(one), alt: `Artifact ${ui.clean(one.path)}` })); return; }
      if (one.size > 262144) { ui.show(place, ui.h("p", { class: "note" }, `${one.path} has ${ui.bytes(one.size)}; download it to see it.`)); return; }
      const text = await (await fetch(address(one, { text: 1 }))).text();
      const split = /\.tsv$/i.test(one.path) ? "\t" : /\.csv$/i.test(one.path) ? "," : null;
      const lines = text.split("\n").filter(Boolean);
      if (split && lines.length > 1 && !text.includes('"')) {
        const head = lines[0].split(split);
        ui.show(place, ui.h("h2", {}, ui.text(one.path)), ui.table(head.map((name, i) => ({ name, cell: (row) => ui.text(row[i] === undefined ? "" : row[i]) })), lines.slice(1, 500).map((line) => line.split(split)), { label: one.path }));
      } else ui.show(place, ui.h("h2", {}, ui.text(one.path)), ui.h("pre", { class: "box", tabindex: "0" }, text));
    };
    return [ui.table([{ name: "File", cell: (one) => (ui.exported ? ui.text(one.path) : ui.h("button", { type: "button", on: { click: () => show(one).catch((error) => ui.show(place, ui.problem(error))) } }, ui.text(one.path))) }, { name: "Task", cell: (one) => ui.text(one.task) }, { name: "Size", kind: "number", cell: (one) => ui.bytes(one.size) }, { name: "", kind: "narrow", cell: (one) => (ui.exported ? "" : ui.h("a", { href: address(one), download: true }, "download")) }], files.slice(0, 2000), { label: "Artifacts" }), place];
  }),
  result: (id, job) => ui.later(ui.get(ui.of(id, "/outcomes")), (all) => ui.outcome(all[job.id])),
};
