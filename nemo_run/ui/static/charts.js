"use strict";
// Pictures of numbers, as SVG.
ui.colours = ["#2f78c4", "#d1662a", "#2f9a5d", "#a83fb8", "#b48a00", "#c43d5c", "#00898f", "#7a6a5a"];

ui.scale = (from, to, start, end) => {
  const width = to - from || 1;
  return (value) => start + ((value - from) / width) * (end - start);
};
ui.ticks = (from, to, count) => {
  if (!(to > from)) return [from];
  const rough = (to - from) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
  const found = [];
  for (let tick = Math.ceil(from / step) * step; tick <= to + step / 1e6; tick += step) found.push(Math.abs(tick) < step / 1e6 ? 0 : tick);
  return found;
};
ui.finite = (values) => values.filter((value) => typeof value === "number" && isFinite(value));
ui.span = (values) => values.reduce(([low, high], one) => [Math.min(low, one), Math.max(high, one)], [Infinity, -Infinity]);
ui.axes = (box, x, y, xs, ys) => [
  ui.ticks(...ys, 4).map((t) => [ui.s("line", { class: "axis", x1: box.left, x2: box.right, y1: y(t), y2: y(t) }),
    ui.s("text", { class: "quiet", x: box.left - 6, y: y(t) + 4, "text-anchor": "end" }, ui.number(t))]),
  ui.ticks(...xs, 5).map((t) => ui.s("text", { class: "quiet", x: x(t), y: box.bottom + 16, "text-anchor": "middle" }, ui.number(t))),
];

// One picture of several curves: [{name, x: [...], y: [...]}]
ui.curves = (title, curves) => {
  const box = { left: 62, right: 410, top: 8, bottom: 176 };
  const xs = ui.span(curves.flatMap((c) => ui.finite(c.x))), ys = ui.span(curves.flatMap((c) => ui.finite(c.y)));
  if (!isFinite(xs[0]) || !isFinite(ys[0])) return ui.h("figure", { class: "chart" }, ui.h("h3", {}, ui.text(title)), ui.h("p", { class: "quiet" }, "no finite values"));
  const x = ui.scale(...xs, box.left, box.right), y = ui.scale(...ys, box.bottom, box.top);
  const lines = curves.map((curve, i) => {
    let path = "", pen = false;
    curve.x.forEach((at, j) => {
      const good = typeof curve.y[j] === "number" && isFinite(curve.y[j]);
      if (good) path += `${pen ? "L" : "M"}${x(at).toFixed(1)} ${y(curve.y[j]).toFixed(1)}`;
      pen = good;
    });
    const colour = ui.colours[i % ui.colours.length];
    return curve.x.length === 1 ? ui.s("circle", { cx: x(curve.x[0]), cy: y(curve.y[0]), r: 3, fill: colour }) : ui.s("path", { d: path, fill: "none", stroke: colour, "stroke-width": 1.6 });
  });
  const cursor = ui.s("line", { class: "axis", y1: box.top, y2: box.bottom, visibility: "hidden" });
  const said = ui.h("span", { class: "small quiet" }, " ");
  const move = (event) => {
    const place = svg.getBoundingClientRect();
    const at = xs[0] + (((event.clientX - place.left) / place.width) * 420 - box.left) / (box.right - box.left) * (xs[1] - xs[0]);
    const near = curves.map((c) => {
      const i = c.x.reduce((best, one, j) => (Math.abs(one - at) < Math.abs(c.x[best] - at) ? j : best), 0);
      return [c, i];
    });
    cursor.setAttribute("x1", x(near[0][0].x[near[0][1]])); cursor.setAttribute("x2", x(near[0][0].x[near[0][1]])); cursor.setAttribute("visibility", "visible");
    said.textContent = ui.clean(near.slice(0, 6).map(([c, i]) => `${curves.length > 1 ? c.name + " " : ""}step ${c.x[i]}: ${ui.number(c.y[i])}`).join("; "));
  };
  const words = curves.map((c) => `${c.name}: ${c.x.length} points, last ${ui.number(c.y[c.y.length - 1])}`).join("; ");
  const svg = ui.s("svg", { viewBox: "0 0 420 200", role: "img", "aria-label": ui.clean(`${title}. ${words}`), on: { pointermove: move } }, ui.axes(box, x, y, xs, ys), cursor, lines);
  const legend = curves.length > 1 ? ui.h("div", { class: "legend" }, curves.map((c, i) => {
    const key = ui.h("i"); key.style.background = ui.colours[i % ui.colours.length];
    return ui.h("span", {}, key, ui.text(c.name));
  })) : null;
  return ui.h("figure", { class: "chart" }, ui.h("h3", {}, ui.text(title)), svg, legend, said);
};

// A column of values as places from 0 to 1: numbers by size, anything else by order.
ui.places = (values) => {
  const numbers = ui.finite(values);
  if (numbers.length === values.length && numbers.length) {
    const [low, high] = ui.span(numbers);
    const log = low > 0 && high / low >= 100;
    const at = log ? ui.scale(Math.log(low), Math.log(high), 0, 1) : ui.scale(low, high, 0, 1);
    return { at: (value) => (low === high ? 0.5 : at(log ? Math.log(value) : value)), ends: [ui.number(low), ui.number(high)] };
  }
  const names = [...new Set(values.map(ui.short))].sort();
  const one = ui.scale(0, names.length - 1, 0, 1);
  return { at: (value) => (names.length < 2 ? 0.5 : one(names.indexOf(ui.short(value)))), ends: [names[0] || "", names[names.length - 1] || ""] };
};

ui.parallel = (trials, names, objective) => {
  const columns = [...names.map((name) => [name, (t) => t.parameters[name]]), [objective, (t) => t.objective]];
  const wide = Math.max(900, columns.length * 130), box = { left: 60, right: wide - 60, top: 34, bottom: 220 };
  const x = ui.scale(0, Math.max(1, columns.length - 1), box.left, box.right);
  const scales = columns.map(([, get]) => ui.places(trials.map(get)));
  const worth = ui.places(trials.map((t) => t.objective));
  const lines = [...trials].sort((a, b) => worth.at(a.objective) - worth.at(b.objective)).map((trial) => {
    const path = columns.map(([, get], i) => `${i ? "L" : "M"}${x(i)} ${box.bottom - scales[i].at(get(trial)) * (box.bottom - box.top)}`).join("");
    return ui.s("path", { d: path, fill: "none", stroke: `hsl(${210 - 180 * worth.at(trial.objective)} 65% 50%)`, "stroke-opacity": 0.65, "stroke-width": 1.5 }, ui.s("title", {}, `${trial.job}: ${ui.number(trial.objective)}`));
  });
  const axes = columns.map(([name], i) => [ui.s("line", { class: "axis", x1: x(i), x2: x(i), y1: box.top, y2: box.bottom }),
    ui.s("text", { x: x(i), y: 14, "text-anchor": "middle" }, name.length > 18 ? `…${name.slice(-17)}` : name),
    ui.s("text", { class: "quiet", x: x(i), y: box.bottom + 16, "text-anchor": "middle" }, scales[i].ends[0].slice(0, 14)),
    ui.s("text", { class: "quiet", x: x(i), y: 28, "text-anchor": "middle" }, scales[i].ends[1].slice(0, 14))]);
  return ui.h("div", { class: "picture", tabindex: "0", role: "region", "aria-label": "Parallel coordinates" },
    ui.s("svg", { class: "parallel", viewBox: `0 0 ${wide} 246`, role: "img", "aria-label": `Parallel coordinates of ${trials.length} jobs` }, axes, lines));
};

ui.scatter = (trials, name, objective) => {
  const given = trials.filter((t) => t.parameters[name] !== undefined);
  const box = { left: 62, right: 410, top: 8, bottom: 176 }, at = ui.places(given.map((t) => t.parameters[name]));
  const ys = ui.span(ui.finite(given.map((t) => t.objective)));
  const y = ui.scale(...ys, box.bottom, box.top);
  const dots = given.map((t) => ui.s("circle", { cx: box.left + 8 + at.at(t.parameters[name]) * (box.right - box.left - 16), cy: y(t.objective), r: 4, fill: ui.colours[0], "fill-opacity": 0.7 }, ui.s("title", {}, `${t.job}: ${ui.number(t.objective)}`)));
  const low = ui.s("text", { class: "quiet", x: box.left, y: 194 }, at.ends[0].slice(0, 24)), high = ui.s("text", { class: "quiet", x: box.right, y: 194, "text-anchor": "end" }, at.ends[1].slice(0, 24));
  return ui.h("figure", { class: "chart" }, ui.h("h3", {}, ui.text(`${objective} by ${name}`)),
    ui.s("svg", { viewBox: "0 0 420 200", role: "img", "aria-label": ui.clean(`${objective} by ${name}, ${given.length} jobs`) }, ui.axes(box, () => -99, y, [0, 0], ys), dots, low, high));
};

// How much of the variance of the objective a parameter explains by itself: between groups of its values.
ui.importance = (trials, names) => {
  const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
  const all = mean(trials.map((t) => t.objective)), total = trials.reduce((sum, t) => sum + (t.objective - all) ** 2, 0);
  return names.map((name) => {
    const place = ui.places(trials.map((t) => t.parameters[name]));
    const few = new Set(trials.map((t) => ui.short(t.parameters[name]))).size <= 8;
    const groups = new Map();
    for (const t of trials) {
      const key = few ? ui.short(t.parameters[name]) : Math.min(5, Math.floor(place.at(t.parameters[name]) * 6));
      groups.set(key, [...(groups.get(key) || []), t.objective]);
    }
    const between = [...groups.values()].reduce((sum, values) => sum + values.length * (mean(values) - all) ** 2, 0);
    return [name, total ? between / total : 0];
  }).sort((a, b) => b[1] - a[1]);
};
ui.bars = (rows) => ui.h("div", {}, rows.map(([name, share]) => ui.h("div", { class: "lane" }, ui.h("span", { title: ui.clean(name) }, ui.text(name)),
  ui.s("svg", { viewBox: "0 0 300 16", height: 16, width: "100%", preserveAspectRatio: "none", role: "img", "aria-label": `${Math.round(share * 100)} %` },
    ui.s("rect", { x: 0, y: 2, width: Math.max(1, share * 260), height: 12, rx: 3, fill: ui.colours[0] }), ui.s("title", {}, `${Math.round(share * 100)} %`)))));
