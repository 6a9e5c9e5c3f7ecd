"use strict";
// Which page is shown, and the connection that tells it what changes.
ui.session = { act: "", actions: [] };
{
  const main = document.getElementById("main"), live = document.getElementById("live"), crumbs = document.getElementById("crumbs");
  let socket = null, shown = "", log = null, onLog = null, pause = 500, number = 0;

  const send = () => { if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify({ experiment: shown, log })); };
  ui.watchLog = (wanted, then) => { log = wanted; onLog = then || null; send(); };
  ui.followed = () => log !== null;
  ui.refresh = () => send();
  const connect = () => {
    if (ui.exported) return;
    socket = new WebSocket(new URL("api/live", location.href.split("#")[0].split("?")[0]).href.replace(/^http/, "ws"));
    socket.onopen = () => { live.textContent = "live"; pause = 500; send(); };
    socket.onclose = () => { live.textContent = "not connected"; setTimeout(connect, pause); pause = Math.min(pause * 2, 15000); };
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.type === "list") {
        ui.takeRows(message.changed);
        for (const id of message.gone) { ui.rows.delete(id); ui.chosen.delete(id); }
        if (ui.onList) ui.onList();
      } else if (message.type === "experiment" && message.experiment.id === shown) { if (ui.onExperiment) ui.onExperiment(message.experiment); }
      else if (message.type === "log" && log && message.start === log.start) { log.start = message.end; if (onLog) onLog(message); }
      else if (message.type === "log" && log && message.start < log.start && onLog) { log.start = message.end; onLog(message); }
    };
  };

  const route = async () => {
    ui.cleanups.splice(0).forEach((cleanup) => cleanup());
    const mine = ++number, [path, query] = location.hash.replace(/^#/, "").split("?"), parts = path.split("/").filter(Boolean).map(decodeURIComponent);
    shown = parts[0] === "e" ? parts[1] || "" : ""; log = null; onLog = null;
    send();
    const here = [];
    if (parts[0] === "e") here.push(ui.h("a", { href: `#/e/${encodeURIComponent(parts[1])}` }, ui.text(parts[1])));
    if (parts[2] === "job") here.push(" / ", ui.text(parts[3]));
    if (parts[0] === "compare") here.push("Comparison");
    ui.show(crumbs, here);
    document.title = ui.clean(parts[3] || parts[1] || "Experiments");
    const place = ui.h("div", { class: "page" });
    if (!parts.length) place.style.height = "100%";
    main.replaceChildren(place);
    main.scrollTop = 0;
    try {
      if (!parts.length) await ui.pages.list(place);
      else if (parts[0] === "e" && parts[2] === "job") await ui.pages.job(place, parts[1], parts[3], parts[4]);
      else if (parts[0] === "e") await ui.pages.experiment(place, parts[1], parts[2]);
      else if (parts[0] === "compare") await ui.pages.compare(place, new URLSearchParams(query).getAll("id"));
      else ui.show(place, ui.problem("There is no such page."));
    } catch (error) { if (mine === number) ui.show(place, ui.problem(error)); }
  };

  document.getElementById("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset.theme ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    try { localStorage.setItem("nemorun-theme", document.documentElement.dataset.theme); } catch { /* not kept */ }
  });
  const keys = "/  find          g  all experiments\nj k ↑ ↓  move    Enter  open\nx  choose to compare    t  light or dark\nBackspace  one level up    ?  these keys";
  document.getElementById("help").addEventListener("click", () => ui.tell("Keys", keys));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input,textarea,select,dialog")) return;
    if (event.key === "/") { const field = main.querySelector("input[type=search]"); if (field) { event.preventDefault(); field.focus(); } }
    else if (event.key === "g") location.hash = "#/";
    else if (event.key === "t") document.getElementById("theme").click();
    else if (event.key === "?") ui.tell("Keys", keys);
    else if (event.key === "Backspace" && shown) { const parts = location.hash.split("/"); location.hash = parts[3] === "job" ? parts.slice(0, 3).join("/") : "#/"; }
  });
  window.addEventListener("hashchange", route);
  // The token is a cookie now; it need not stay in the address, where others may see it.
  if (location.search.includes("token=")) history.replaceState(null, "", location.pathname + location.hash);
  (async () => {
    if (!ui.exported) {
      try { ui.session = { actions: [], ...(await ui.get("api/session")) }; } catch (error) { ui.show(main, ui.problem(error)); return; }
    }
    connect();
    route();
  })();
}
